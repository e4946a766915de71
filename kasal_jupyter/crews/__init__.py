"""Crews, agents, tasks and their versions: how they are kept, and what holds of them."""
