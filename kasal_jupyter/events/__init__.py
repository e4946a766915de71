"""The journal's language: the events of a run, and what they are folded into."""
