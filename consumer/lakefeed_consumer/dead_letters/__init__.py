"""Records that are not valid events: kept whole with the reason, listed, and replayed."""
