"""Publishes CSV files: plan, events, delivery and progress, and the command `publish`."""
