"""A client for one request, the conditional put of a small object; unconfirmed puts go to obstore."""
