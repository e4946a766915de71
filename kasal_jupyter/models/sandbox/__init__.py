"""The sandbox model: what it says, made from the request alone, without any server."""

CONTEXT_WINDOW = 200_000
"""Tokens the model takes: more than any test needs, so that nothing is summarised away."""
