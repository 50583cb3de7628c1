"""Iceberg tables: what `lakefeed-analytics compact`, `rebuild` and `maintain` do."""
