"""Stores records as batch objects: in each partition, a batch starts where the last one ends."""
