"""`python -m lakefeed_producer`."""

import sys

from lakefeed_producer.cli import main

sys.exit(main())
