"""Stores each Kafka event as an S3 object."""
