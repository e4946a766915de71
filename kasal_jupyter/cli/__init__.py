"""The `jupyter kasal` command."""
