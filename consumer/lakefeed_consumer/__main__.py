"""`python -m lakefeed_consumer` is `lakefeed-consumer`."""

import sys

from lakefeed_consumer.cli import main

sys.exit(main())
