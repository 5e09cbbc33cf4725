"""The size of a notebook, a cell a section: how alike are some photos? `python notebook.py a.jpg b.jpg c.jpg`."""

# %% What the server has
import sys

import numpy as np
from featserve_client import FeatureClient

client = FeatureClient()
model = client.metadata()
print(model.model, model.version, *model.layers)

# %% The activations as they are, one array per layer
photos = sys.argv[1:]
features = client.extract(photos)
for layer, array in features.items():
    print(layer, array.shape, array.dtype)

# %% One vector per photo, and all cosines
vectors = client.embed(photos)
print(np.round(vectors @ vectors.T, 2))
client.close()
