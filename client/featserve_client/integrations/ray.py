"""Ray Data: `dataset.map_batches(FeatureExtractor, ...)`, one client per actor.

Example:
    >>> options = {"target": "server:8500", "model": "vgg16", "layers": ["block5_pool"]}
    >>> photos = ray.data.read_binary_files("photos/", include_paths=True)
    >>> features = photos.map_batches(FeatureExtractor, fn_constructor_kwargs=options, concurrency=4)
    >>> features.write_parquet("features/")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..client import FeatureClient
from ..exceptions import ConfigError
from ..model.signatures import IMAGE_SIGNATURES


class FeatureExtractor:
    """Adds a column of activations per layer to each batch, and `error`: empty, or why a row has zeros.

    Args:
        target: the server's address.
        model: the model's name.
        layers: the layers wanted, all if None.
        column: where the encoded images or paths are.
        options: anything else `FeatureClient` takes.
    """

    def __init__(
        self,
        *,
        target: str,
        model: str,
        layers: Sequence[str] | None = None,
        column: str = "bytes",
        options: dict[str, Any] | None = None,
    ) -> None:
        """Configures the extractor; its actor connects at the first batch."""
        self._client = FeatureClient(target, model=model, **(options or {}))
        self._layers = layers
        self._column = column

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Extracts one batch.

        Raises:
            ConfigError: the batch lacks the column.
            FeatserveError: a call fails as `FeatureClient.extract_iter` lists, where that is not about one image.
        """
        if self._column not in batch:
            raise ConfigError(f"the batch has no column {self._column!r}; it has {', '.join(batch)}")
        images = batch[self._column].tolist()
        results = list(self._client.extract_iter(images, self._layers, on_error="return"))
        shapes = {name: spec.shape for name, spec in self._specs().items()}
        added: dict[str, npt.NDArray[Any]] = {
            "error": np.array([str(result.error or "") for result in results], object)
        }
        for layer, shape in shapes.items():
            rows = np.zeros((len(results), *(size or 0 for size in (shape or ())[1:])), np.float32)
            for row, result in enumerate(results):
                if result.error is None:
                    rows[row] = result.features[layer]
            added[layer] = rows
        return batch | added

    def _specs(self) -> dict[str, Any]:
        known = self._client.metadata()
        outputs = known.signatures[IMAGE_SIGNATURES["encoded"].name].outputs
        return {layer: outputs[layer] for layer in (self._layers or known.layers)}
