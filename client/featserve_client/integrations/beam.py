"""Apache Beam: a `RemoteModelHandler` for `RunInference`, one client per process.

Example:
    >>> handler = FeatureHandler(target="server:8500", model="vgg16", layers=["block5_pool"])
    >>> photos = p | fileio.MatchFiles("photos/*.jpg") | fileio.ReadMatches() | beam.Map(lambda file: file.read())
    >>> features = photos | RunInference(handler)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..client import FeatureClient
from ..core.stream import Extracted
from ..extras import require
from ..images.inputs import ImageLike

_base: Any = require("apache_beam.ml.inference.base", "beam", "featserve_client.integrations.beam")
_RemoteModelHandler: Any = _base.RemoteModelHandler


class FeatureHandler(_RemoteModelHandler):  # type: ignore[misc]
    """Gives a `PredictionResult` per image; its `inference` is an `Extracted`: features by layer, or an error.

    Args:
        target: the server's address.
        model: the model's name.
        layers: the layers wanted, all if None.
        batch: images in one call at most.
        options: anything else `FeatureClient` takes.
    """

    def __init__(
        self,
        *,
        target: str,
        model: str,
        layers: Sequence[str] | None = None,
        batch: int = 128,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Configures the handler; a worker connects at its first batch."""
        # The client waits for a server that is away, so that Beam need not.
        super().__init__(namespace="featserve", num_retries=0)
        self._client = FeatureClient(target, model=model, **(options or {}))
        self._layers = layers
        self._batch = batch

    def create_client(self) -> FeatureClient:
        """Returns the client."""
        return self._client

    def request(
        self, batch: Sequence[ImageLike], model: FeatureClient, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Any]:
        """Extracts one batch.

        Raises:
            FeatserveError: a call fails as `FeatureClient.extract_iter` lists, where that is not about one image.
        """
        results: list[Extracted] = list(model.extract_iter(batch, self._layers, on_error="return"))
        return [
            _base.PredictionResult(example=image, inference=result, model_id=str(result.version))
            for image, result in zip(batch, results, strict=True)
        ]

    def batch_elements_kwargs(self) -> dict[str, int]:
        """Returns how Beam makes batches."""
        return {"max_batch_size": self._batch}
