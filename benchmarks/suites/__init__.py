"""The suites, a module each, with a `SUITE`; none knows another."""
