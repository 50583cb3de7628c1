"""Code shared by two or more Lakefeed services."""
