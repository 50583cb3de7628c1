"""The local AWS's process: MiniStack as an ASGI app, and what it lacks of Glue and Athena in front of it.

Runs in MiniStack's own environment, which has the standard library, MiniStack and orjson. Of our own packages
it may import `lakefeed_local.crawl` and those modules of `lakefeed_common` that need no more than that.
"""
