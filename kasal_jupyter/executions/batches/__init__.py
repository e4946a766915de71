"""Batches: a crew run over many rows, one execution a row."""
