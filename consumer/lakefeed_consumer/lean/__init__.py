"""A client for one request, the conditional put of a small object; what it is not sure of goes to obstore."""
