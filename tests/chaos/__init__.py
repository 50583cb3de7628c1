"""The chaos suite: the real pipeline under a seeded schedule of kills and outages, then every event counted.

`make chaos` runs it; `python -m tests.chaos --help` says how.
"""
