"""Search among photos with nothing but numpy: `python search.py photos/ query.jpg`.

Asks the server and model that FEATSERVE_SERVER and FEATSERVE_MODEL name.
"""

import sys
from pathlib import Path

import numpy as np
from featserve_client import FeatureClient

folder, query = sys.argv[1:]
paths = sorted(Path(folder).glob("*.jpg"))
with FeatureClient() as client:
    vectors = client.embed(paths)
    cosines = vectors @ client.embed(query)[0]
for row in np.argsort(-cosines)[:5]:
    print(f"{cosines[row]:.3f}  {paths[row]}")
