"""Nearest neighbors by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.vectors import to_vectors
from ..exceptions import OutputError
from ..extras import require

#: Rows beyond which usearch searches, and searches all: an index for one question would take far longer to build.
_INDEX_ROWS = 100_000


def nearest(
    vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32], count: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Returns the rows nearest to a query, best first, and their cosines; exact.

    Args:
        vectors: `(rows, size)` float32 unit vectors.
        query: `(size,)` float32 unit vector.
        count: rows wanted.

    Raises:
        MissingExtraError: the search of more rows needs usearch, which is not installed.
    """
    count = min(count, len(vectors))
    if len(vectors) > _INDEX_ROWS:
        usearch = require("usearch.index", "pictures", f"searching more than {_INDEX_ROWS:,} rows")
        found = usearch.search(vectors, query, count, usearch.MetricKind.IP, exact=True)
        rows = np.asarray(found.keys, np.intp)
    else:
        rows = np.argpartition(vectors @ query, len(vectors) - count)[len(vectors) - count :]
    cosines = vectors[rows] @ query
    # Equal cosines come in the order of the rows, so that the same question has the same answer.
    order = np.lexsort((rows, -cosines))
    return rows[order], cosines[order]


def load_vectors(path: Path, layer: str | None) -> tuple[Sequence[str], str, npt.NDArray[np.float32]]:
    """Returns file names, the layer and unit vectors from a .parquet that `featserve extract` wrote.

    Raises:
        OutputError: the file is no output of `featserve extract`, or lacks the layer.
    """
    parquet = require("pyarrow.parquet", "bulk", "reading .parquet")
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ValueError) as exc:
        raise OutputError(f"{path} cannot be read: {exc}") from exc
    with file:
        schema = file.schema_arrow
        layers = [field.name for field in schema if getattr(field.type, "shape", None) is not None]
        if "path" not in schema.names or not layers:
            raise OutputError(f"{path} is not an output of featserve extract: it has {', '.join(schema.names)}")
        chosen = layer or layers[-1]
        if chosen not in layers:
            raise OutputError(f"{path} has no layer {chosen!r}; it has {', '.join(layers)}")
        names: list[Any] = []
        vectors = []
        for batch in file.iter_batches(batch_size=1024, columns=["path", chosen]):
            names += batch.column(0).to_pylist()
            vectors.append(to_vectors(batch.column(1).to_numpy_ndarray()))
    if not names:
        raise OutputError(f"{path} has no rows")
    return names, chosen, np.concatenate(vectors)
