"""Terraform, and the broker's instance in a container."""
