"""`python -m kasal_jupyter.cli`: the same as `jupyter kasal`."""

import sys

from kasal_jupyter.cli import main

sys.exit(main())
