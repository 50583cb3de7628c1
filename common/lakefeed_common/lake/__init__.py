"""What the bucket holds: records, and the keys, lines and metadata of the objects that they become."""
