"""`python -m lakefeed_analytics` is `lakefeed-analytics`."""

import sys

from lakefeed_analytics.cli import main

sys.exit(main())
