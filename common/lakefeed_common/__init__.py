"""What two Lakefeed services or more share, and nothing else."""
