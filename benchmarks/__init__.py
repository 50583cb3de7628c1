"""Benchmarks: each is a target of the Makefile and writes its results to `build/`."""
