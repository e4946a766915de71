"""Crews in the notebook: as Python objects, as cards and graphs, in files, in the server."""
