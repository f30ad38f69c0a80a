"""`python -m protomask`: the command line, for launchers that start a module in several processes."""

import sys

from protomask.cli.main import main

sys.exit(main())
