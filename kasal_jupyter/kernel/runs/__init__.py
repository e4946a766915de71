"""Runs in the notebook: started, followed, answered, and what came of them."""
