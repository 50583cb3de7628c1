"""What stands in for AWS and for the broker's machine on one's own computer."""
