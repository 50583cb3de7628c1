"""Everything that talks to Kafka: the topic, what it holds of a file, record batches and their sending."""
