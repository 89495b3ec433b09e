"""`python -m elman` is the command `elman`."""

import sys

from elman.cli import main

sys.exit(main())
