"""Publishes the CSV files that appear in a folder: the command `watch`."""
