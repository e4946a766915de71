"""Data frames as a run's inputs: what an agent is told of one, and its tools for it."""
