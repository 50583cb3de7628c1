"""Starts the local AWS in MiniStack's environment: `launcher.py FOLDER …`, the folders of our own packages.

They come last on Python's path, so that no package installed next to them replaces one of MiniStack's.
"""

import sys

sys.path.extend(sys.argv[1:])

from lakefeed_local.ministack.server import main

main()
