"""`python -m featserve_export` is `featserve-export`."""

import sys

from ._cli import main

sys.exit(main())
