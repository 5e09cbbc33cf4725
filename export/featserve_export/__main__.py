"""`python -m featserve_export` is `featserve-export`."""

import sys

from .cli import main

sys.exit(main())
