"""Crews in and out: YAML and back."""
