"""Catalogues objects with a Glue crawler and queries them with Athena."""
