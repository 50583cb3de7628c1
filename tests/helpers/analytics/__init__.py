"""Fakes and contracts of the analytics service."""
