"""Rules of crews that both sides of the wire follow."""
