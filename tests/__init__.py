"""Tests of all parts, and what they share."""
