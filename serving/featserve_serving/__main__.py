"""`python -m featserve_serving` is `featserve-serve`."""

import sys

from ._cli import main

sys.exit(main())
