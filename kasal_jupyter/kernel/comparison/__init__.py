"""Crews compared on the same rows: scores, statistics, the judge, and what is said of it."""
