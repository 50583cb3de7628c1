"""Stores records as objects, and reports up to which offset everything is stored."""
