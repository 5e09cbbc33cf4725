"""The nearest neighbors of every photo among all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..extras import require
from .rows import Vectors, runs

#: Rows of queries and of the index that are multiplied at once.
_QUERIES = 512
_COLUMNS = 8192
#: Queries whose approximate neighbors are compared with the exact ones.
_CHECKED = 500

Neighbors = npt.NDArray[np.int64]
#: Called after some steps of a search with their number: a photo that an index took, or whose neighbors were found.
Steps = Callable[[int], None]


def unfollowed(steps: int) -> None:
    """Takes the steps of a search whose progress nobody follows."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """How neighbors are found: exactly up to a number of photos, by usearch beyond."""

    exact_photos: int
    report: Steps = unfollowed

    def is_exact(self, photos: int) -> bool:
        """Whether so many photos are searched exactly."""
        return photos <= self.exact_photos

    def check(self, photos: int) -> None:
        """Refuses a search that lacks its library.

        Raises:
            MissingExtraError: usearch is needed and not installed.
        """
        if not self.is_exact(photos):
            require("usearch.index", "pictures", f"searching more than {self.exact_photos:,} photos")

    def steps(self, photos: int) -> int:
        """Returns the steps at most of comparing so many photos: each is searched for in A, mixed and in B."""
        if self.is_exact(photos):
            return 3 * photos
        # Two indexes take each photo, and try some.
        return 5 * photos + 2 * min(_CHECKED, photos)

    def index(self, vectors: Vectors) -> ExactIndex | ApproximateIndex:
        """Returns an index of unit vectors `(N, size)` float32."""
        kind = ExactIndex if self.is_exact(len(vectors)) else ApproximateIndex
        return kind(vectors, self.report)


class ExactIndex:
    """Compares each query with each vector."""

    #: What reports say of it.
    description = "exact search"

    def __init__(self, vectors: Vectors, report: Steps) -> None:
        self._vectors = vectors
        self._report = report

    def neighbors(self, queries: Vectors, count: int, own: npt.NDArray[np.intp]) -> Neighbors:
        """Returns the rows nearest to each query, best first, `(N, count)`; -1 where there are no more.

        Args:
            queries: `(N, size)` float32 unit vectors.
            count: neighbors wanted.
            own: `(N,)`: the row of the index that is the query's own photo, which is left out.
        """
        found = np.empty((len(queries), count), np.int64)
        for start in range(0, len(queries), _QUERIES):
            part = slice(start, min(start + _QUERIES, len(queries)))
            found[part] = self._nearest(queries[part], count, own[part])
            self._report(part.stop - part.start)
        return found

    def _nearest(self, queries: Vectors, count: int, own: npt.NDArray[np.intp]) -> Neighbors:
        scores = np.full((len(queries), count), -np.inf, np.float32)
        rows = np.full((len(queries), count), -1, np.int64)
        places = np.arange(len(queries))
        for start in range(0, len(self._vectors), _COLUMNS):
            block = queries @ self._vectors[start : start + _COLUMNS].T
            inside = (own >= start) & (own < start + block.shape[1])
            block[places[inside], own[inside] - start] = -np.inf
            best = np.argpartition(-block, min(count, block.shape[1] - 1), axis=1)[:, :count]
            scores = np.concatenate([scores, np.take_along_axis(block, best, 1)], axis=1)
            rows = np.concatenate([rows, best + start], axis=1)
            order = np.lexsort((rows, -scores), axis=1)[:, :count]
            scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
        return np.where(np.isneginf(scores), -1, rows)


class ApproximateIndex:
    """A graph of usearch, which finds nearly all of the nearest."""

    def __init__(self, vectors: Vectors, report: Steps) -> None:
        self._report = report
        usearch = require("usearch.index", "pictures", "searching so many photos")
        self._index = usearch.Index(
            ndim=vectors.shape[1], metric=usearch.MetricKind.IP, dtype="f32", expansion_add=128, expansion_search=256
        )
        for part in runs(len(vectors), vectors.shape[1]):
            self._index.add(np.arange(part.start, part.stop), vectors[part])
            report(part.stop - part.start)
        self._exact = ExactIndex(vectors, unfollowed)
        self.description = f"approximate search by usearch, which finds {self._found(vectors):.3f} of the exact ones"

    def neighbors(self, queries: Vectors, count: int, own: npt.NDArray[np.intp]) -> Neighbors:
        """Returns the rows nearest to each query, as `ExactIndex.neighbors` does."""
        found = np.full((len(queries), count), -1, np.int64)
        for part in runs(len(queries), queries.shape[1]):
            matches = self._index.search(queries[part], count + 1)
            keys = np.asarray(matches.keys).astype(np.int64)
            keys[np.arange(count + 1) >= np.asarray(matches.counts)[:, np.newaxis]] = -1
            others = keys != own[part, np.newaxis]
            # A stable sort moves the photo itself to the end, where the slice leaves it out.
            order = np.argsort(~others, axis=1, kind="stable")[:, :count]
            found[part] = np.take_along_axis(keys, order, 1)
            self._report(part.stop - part.start)
        return found

    def _found(self, vectors: Vectors, count: int = 10) -> float:
        rows = np.unique(np.linspace(0, len(vectors) - 1, _CHECKED).astype(np.intp))
        queries = np.ascontiguousarray(vectors[rows])
        exact, approximate = (index.neighbors(queries, count, rows) for index in (self._exact, self))
        return float(tie_aware_recall(vectors, rows, exact, approximate).mean())


def tie_aware_recall(
    vectors: Vectors, own: npt.NDArray[np.intp], truth: Neighbors, found: Neighbors
) -> npt.NDArray[np.float64]:
    """Returns for each query the share of its neighbors found that are as near as the true ones, `(N,)` in 0..1.

    Photos that lie equally far are equally right, so that duplicates do not count as changes.

    Args:
        vectors: `(rows, size)` float32 unit vectors, in which nearness is measured.
        own: `(N,)`: each query's row.
        truth: `(N, k)`: the rows nearest to each query.
        found: `(N, k)`: the rows that were found in their place; -1 stands for none.
    """
    shares = np.empty(len(own))
    for part in runs(len(own), vectors.shape[1], 2 * truth.shape[1] + 1):
        queries = vectors[own[part]]
        right, given = (np.einsum("nkd,nd->nk", vectors[rows[part]], queries) for rows in (truth, found))
        # Sums in another order differ by about so much.
        furthest = np.where(truth[part] >= 0, right, np.inf).min(axis=1) - 1e-6
        shares[part] = ((given >= furthest[:, np.newaxis]) & (found[part] >= 0)).mean(axis=1)
    return shares
