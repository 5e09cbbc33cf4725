"""Vectors of one side, a row a photo: on disk, so that memory stays bounded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from ..exceptions import OutputError

#: A run of rows holds about this many bytes.
_RUN_BYTES = 16 * 2**20

Vectors = npt.NDArray[np.float32]


class Rows:
    """The vectors of photos by layer, each of length 1, and the length that each had.

    The vectors lie in files without a name, which end with the process however it ends.
    """

    def __init__(self, count: int, sizes: Mapping[str, int]) -> None:
        #: `(count, size)` float32 by layer.
        self.unit: dict[str, Vectors] = {layer: _on_disk(count, size) for layer, size in sizes.items()}
        #: `(count,)` float64 by layer: NaN or infinity where a vector holds such.
        self.norms = {layer: np.zeros(count) for layer in sizes}
        self.sha256 = [""] * count
        #: Which rows were read.
        self.there = np.zeros(count, bool)

    def put(self, layer: str, rows: npt.NDArray[np.intp], vectors: Vectors) -> None:
        """Takes vectors `(len(rows), size)` float32 as they were computed."""
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        self.norms[layer][rows] = norms
        finite = np.isfinite(norms)
        scale = np.where(finite, np.maximum(norms, 1e-12), 1)[:, np.newaxis]
        self.unit[layer][rows] = np.where(finite[:, np.newaxis], vectors, 0) / scale
        self.there[rows] = True

    def finite(self) -> npt.NDArray[np.bool_]:
        """Returns which rows hold neither NaN nor infinity in any layer."""
        finite = np.ones(len(self.there), np.bool_)
        for norms in self.norms.values():
            finite &= np.isfinite(norms)
        return finite

    def keep(self, rows: npt.NDArray[np.intp]) -> None:
        """Forgets all but some rows, which are ascending."""
        if len(rows) == len(self.there):
            return
        for layer, unit in self.unit.items():
            for part in runs(len(rows), unit.shape[1]):
                unit[part] = unit[rows[part]]
            self.unit[layer] = unit[: len(rows)]
            self.norms[layer] = self.norms[layer][rows]
        self.sha256 = [self.sha256[row] for row in rows]
        self.there = self.there[rows]


def runs(count: int, size: int, copies: int = 1) -> Iterator[slice]:
    """Yields slices that cover `count` rows; each holds a bounded number of bytes of `copies` vectors of `size`."""
    step = max(_RUN_BYTES // max(4 * size * copies, 1), 1)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _on_disk(count: int, size: int) -> Vectors:
    size_bytes = 4 * count * size
    try:
        with tempfile.TemporaryFile(prefix="featserve-") as file:
            # A full disk is an error here; under a file with holes, it would end the process later.
            os.posix_fallocate(file.fileno(), 0, size_bytes)
            return np.memmap(file, np.float32, "r+", shape=(count, size))
    except OSError as exc:
        folder = tempfile.gettempdir()
        raise OutputError(
            f"{size_bytes / 1e6:,.0f} MB for vectors cannot be had in {folder} ($TMPDIR names another folder): {exc}"
        ) from exc
