"""Images cut into requests, and the answers put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..config import Limits
from ..exceptions import ResponseError
from ..images.inputs import Image


@dataclass(frozen=True)
class ImageBatch:
    """Images that travel in one request, and their indices in the input."""

    indices: list[int]
    images: list[Image]

    def halves(self) -> tuple[ImageBatch, ImageBatch]:
        """Returns the batch cut in two."""
        middle = len(self.images) // 2
        return (
            ImageBatch(self.indices[:middle], self.images[:middle]),
            ImageBatch(self.indices[middle:], self.images[middle:]),
        )


@dataclass(frozen=True)
class BatchResult:
    """The answer to a batch: for each layer an array `(images, ...)` float32, and the version that gave it."""

    indices: list[int]
    outputs: dict[str, npt.NDArray[np.float32]]
    version: int


class Batcher:
    """Sorts images into batches: each holds images of one kind and shape, within the limits."""

    def __init__(self, limits: Limits, row_bytes: Callable[[Image], int]) -> None:
        self._limits = limits
        self._row_bytes = row_bytes
        #: By kind and shape: the batch, its bytes, and how many images it may hold.
        self._open: dict[tuple[object, ...], tuple[ImageBatch, int, int]] = {}
        self._next = 0

    def skip(self) -> int:
        """Returns the next index, which no image takes."""
        self._next += 1
        return self._next - 1

    def add(self, image: Image) -> Iterator[ImageBatch]:
        """Takes one image; yields the batches that are full now."""
        batch, size, most = self._open.pop(image.group, (None, 0, 0))
        if batch is not None and size + image.nbytes > self._limits.max_request_bytes:
            yield batch
            batch = None
        if batch is None:
            fit = self._limits.max_response_bytes // max(self._row_bytes(image), 1)
            batch, size, most = ImageBatch([], []), 0, max(1, min(self._limits.max_request_images, fit))
        batch.indices.append(self.skip())
        batch.images.append(image)
        if len(batch.images) >= most:
            yield batch
        else:
            self._open[image.group] = (batch, size + image.nbytes, most)
        # Images of ever new shapes must not pile up: the oldest batch goes first.
        while sum(size for _, size, _ in self._open.values()) > 2 * self._limits.max_request_bytes:
            yield self._open.pop(next(iter(self._open)))[0]

    def flush(self) -> Iterator[ImageBatch]:
        """Yields the batches that are not full."""
        for batch, _, _ in self._open.values():
            yield batch
        self._open.clear()


def merge(results: Sequence[BatchResult]) -> dict[str, npt.NDArray[np.float32]]:
    """Returns one array per layer, each row at its index.

    Raises:
        ResponseError: a layer has different shapes in different answers.
    """
    count = sum(len(result.indices) for result in results)
    merged = {}
    for layer, first in results[0].outputs.items():
        shapes = {result.outputs[layer].shape[1:] for result in results}
        if len(shapes) > 1:
            raise ResponseError(f"layer {layer!r} has a different shape for different images: {sorted(shapes)}")
        whole = np.empty((count, *first.shape[1:]), np.float32)
        for result in results:
            whole[result.indices] = result.outputs[layer]
        merged[layer] = whole
    return merged
