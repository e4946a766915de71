"""The books: what runs have used, and what the next may."""
