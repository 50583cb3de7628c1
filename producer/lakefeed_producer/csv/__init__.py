"""Reads CSV files: bytes to records, records to typed columns."""
