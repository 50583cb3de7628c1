"""Publishes CSV rows as Kafka events."""
