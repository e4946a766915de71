"""A run's process: the only room that imports CrewAI."""
