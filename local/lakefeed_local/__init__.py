"""Kafka, ZooKeeper and a local AWS on this computer."""
