"""A crawl of Glue: from the objects under a crawler's targets to tables and partitions in the catalogue."""
