"""`python -m featserve_serving` is `featserve-serve`."""

import sys

from .launch.cli import main

sys.exit(main())
