"""Measurements: each is a command of the Makefile and writes what it found into `build/`."""
