"""The crew of a run: built from its spec as CrewAI's objects, watched, reported."""
