"""``python -m kasal_jupyter.cli`` is `jupyter kasal`."""

import sys

from kasal_jupyter.cli import main

sys.exit(main())
