"""The suites: one independent module each, which defines `SUITE`."""
