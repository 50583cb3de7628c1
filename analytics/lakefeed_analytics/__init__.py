"""Catalogues the objects with a Glue crawler and answers SQL with Athena."""
