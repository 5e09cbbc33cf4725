"""Spark: a function for `DataFrame.mapInPandas`, one client per partition.

Example:
    >>> photos = spark.read.format("binaryFile").load("photos/").select("path", "content")
    >>> extract = feature_extractor(target="server:8500", model="vgg16", layers=["block5_pool"])
    >>> photos.mapInPandas(extract, schema(["block5_pool"])).write.parquet("features/")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..client import FeatureClient


def schema(layers: Sequence[str]) -> str:
    """Returns the result's schema: path, error, and each layer flat."""
    return ", ".join(["path string", "error string", *(f"`{layer}` array<float>" for layer in layers)])


def feature_extractor(
    *, target: str, model: str, layers: Sequence[str], options: dict[str, Any] | None = None
) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """Returns a function for `mapInPandas` over rows with `path` and `content` (encoded bytes).

    Args:
        target: the server's address.
        model: the model's name.
        layers: the layers wanted.
        options: anything else `FeatureClient` takes.
    """
    client = FeatureClient(target, model=model, **(options or {}))

    def extract(frames: Iterator[Any]) -> Iterator[Any]:
        import pandas  # type: ignore[import-untyped]  # Spark has need of it itself

        for frame in frames:
            results = list(client.extract_iter(frame["content"].tolist(), layers, on_error="return"))
            columns: dict[str, Any] = {
                "path": frame["path"].tolist(),
                "error": [str(result.error or "") for result in results],
            }
            for layer in layers:
                columns[layer] = [None if r.error else r.features[layer].ravel() for r in results]
            yield pandas.DataFrame(columns)

    return extract
