"""Restores the records of a topic from the objects in a bucket into a topic, as they were, each once."""
