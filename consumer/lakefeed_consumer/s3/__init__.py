"""The two S3 clients behind `ObjectStore`: `fast` for conditional puts, obstore for everything else."""
