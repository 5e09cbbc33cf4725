"""Two sides' vectors of the same photos, compared layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .rows import Rows, Vectors, runs
from .search import Neighbors, Search, tie_aware_recall
from .statistics import Distribution, Estimate, estimate

#: The neighbors of each photo that are compared.
NEIGHBORS = 10
#: Photos below which nearly all others are among the nearest.
_FEWEST = NEIGHBORS + 2
#: Photos that changed most, of those that are listed, and the neighbors listed of each.
_CHANGED = 8
_LISTED = 5
_BINS = 40
#: Distance of unit vectors within which sums in another order of float32 numbers lie.
_ROUNDING = 1e-5


@dataclass(frozen=True, kw_only=True)
class Recall:
    """The share of A's nearest neighbors that another search finds."""

    at_1: Estimate
    at_10: Estimate


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A photo whose vector changed much."""

    photo: str
    #: None where the vectors have different sizes.
    cosine: float | None
    recall_at_10: float | None
    #: Its nearest photos in A, and those that are found instead.
    neighbors_before: Sequence[str]
    neighbors_after: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class LayerComparison:
    """The comparison of one layer; a figure that cannot be had is None."""

    layer_a: str
    layer_b: str
    size_a: int
    size_b: int
    photos: int
    #: Whether all vectors are equal bit for bit.
    identical: bool
    #: The largest distance of two vectors of length 1 of one photo.
    largest_distance: float | None
    cosine: Distribution | None
    #: How many photos have a cosine in each of as many equal bins from the lowest to 1.
    cosine_bins: Sequence[int]
    #: The length of B's vector over that of A's, where both are the models' own and the sizes are equal.
    norm_ratio: Distribution | None
    same_class: Estimate | None
    #: B's vectors searched in an index of B.
    separate: Recall | None
    #: B's vectors searched in an index of A.
    mixed: Recall | None
    search: str | None
    changed: Sequence[Changed]
    #: Photos whose vector holds NaN or infinity on one side alone, by side.
    broken: Mapping[str, int]

    @property
    def name(self) -> str:
        """The layer's name, or those of both sides."""
        return self.layer_a if self.layer_a == self.layer_b else f"{self.layer_a} ↔ {self.layer_b}"

    @property
    def same(self) -> bool:
        """Whether the vectors, brought to length 1, are equal but for rounding."""
        return self.largest_distance is not None and self.largest_distance < _ROUNDING

    @property
    def other_lengths(self) -> bool:
        """Whether most vectors are known to have another length."""
        return self.norm_ratio is not None and not 0.99 < self.norm_ratio.median < 1.01


def compare_layer(
    layers: tuple[str, str],
    photos: Sequence[str],
    rows: tuple[Rows, Rows],
    search: Search,
    *,
    lengths: bool,
    classes: bool,
    broken: Mapping[str, int],
) -> LayerComparison:
    """Returns the comparison of a layer.

    Args:
        layers: the layer's name in A and in B.
        photos: the names of at least one photo.
        rows: the vectors of A and of B, a row for each photo.
        search: how neighbors are found.
        lengths: whether both sides have the lengths that their models gave.
        classes: whether the values are scores of the same classes.
        broken: photos left out because their vector holds NaN or infinity on one side alone, by side.
    """
    (a, b) = (side.unit[layer] for side, layer in zip(rows, layers, strict=True))
    norms_a, norms_b = (side.norms[layer] for side, layer in zip(rows, layers, strict=True))
    same_size = a.shape[1] == b.shape[1]
    cosines = _cosines(a, b, norms_a, norms_b) if same_size else None
    identical = same_size and np.array_equal(norms_a, norms_b) and _equal(a, b)
    found = None
    if len(photos) >= _FEWEST:
        found = _Found.of(a, b, search, identical=identical)
    shares = found.shares(a, found.after) if found else None
    comparison = LayerComparison(
        layer_a=layers[0],
        layer_b=layers[1],
        size_a=a.shape[1],
        size_b=b.shape[1],
        photos=len(photos),
        identical=identical,
        largest_distance=_largest_distance(a, b) if same_size else None,
        cosine=None if cosines is None else Distribution.of(cosines),
        cosine_bins=[] if cosines is None else _bins(cosines),
        norm_ratio=_ratio(norms_a, norms_b) if lengths and same_size else None,
        same_class=estimate(_same_top(a, b)) if classes and same_size else None,
        separate=found.recall(a, found.separate) if found else None,
        mixed=found.recall(a, found.mixed) if found and found.mixed is not None else None,
        search=found.description if found else None,
        changed=[],
        broken=broken,
    )
    # Of what rounding does, nothing is to be seen.
    return comparison if comparison.same else replace(comparison, changed=_changed(photos, cosines, shares, found))


@dataclass(frozen=True, kw_only=True)
class _Found:
    own: npt.NDArray[np.intp]
    truth: Neighbors
    separate: Neighbors
    #: None where the vectors have different sizes.
    mixed: Neighbors | None
    description: str

    @classmethod
    def of(cls, a: Vectors, b: Vectors, search: Search, *, identical: bool) -> _Found:
        own = np.arange(len(a))
        index = search.index(a)
        truth = index.neighbors(a, NEIGHBORS, own)
        description = index.description
        if identical:
            return cls(own=own, truth=truth, separate=truth, mixed=truth, description=description)
        mixed = index.neighbors(b, NEIGHBORS, own) if a.shape[1] == b.shape[1] else None
        del index  # so that one graph at a time is in memory
        separate = search.index(b).neighbors(b, NEIGHBORS, own)
        return cls(own=own, truth=truth, separate=separate, mixed=mixed, description=description)

    @property
    def after(self) -> Neighbors:
        return self.separate if self.mixed is None else self.mixed

    def shares(self, a: Vectors, found: Neighbors, count: int = NEIGHBORS) -> npt.NDArray[np.float64]:
        return tie_aware_recall(a, self.own, self.truth[:, :count], found[:, :count])

    def recall(self, a: Vectors, found: Neighbors) -> Recall:
        return Recall(at_1=estimate(self.shares(a, found, 1)), at_10=estimate(self.shares(a, found)))


def _cosines(
    a: Vectors, b: Vectors, norms_a: npt.NDArray[np.float64], norms_b: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    cosines = np.empty(len(a))
    for part in runs(len(a), a.shape[1], 4):
        cosines[part] = np.einsum("nd,nd->n", a[part].astype(np.float64), b[part].astype(np.float64))
    # Two vectors of zeros are the same, though they have no angle.
    cosines[(norms_a == 0) & (norms_b == 0)] = 1
    return np.clip(cosines, -1, 1)


def _largest_distance(a: Vectors, b: Vectors) -> float:
    parts = runs(len(a), a.shape[1], 4)
    return max(float(np.linalg.norm(a[part] - b[part], axis=1).max()) for part in parts)


def _equal(a: Vectors, b: Vectors) -> bool:
    return all(np.array_equal(a[part], b[part]) for part in runs(len(a), a.shape[1], 2))


def _same_top(a: Vectors, b: Vectors) -> npt.NDArray[np.float64]:
    same: npt.NDArray[np.bool_] = a.argmax(axis=1) == b.argmax(axis=1)
    return same.astype(np.float64)


def _ratio(norms_a: npt.NDArray[np.float64], norms_b: npt.NDArray[np.float64]) -> Distribution | None:
    there = norms_a > 0
    return Distribution.of(norms_b[there] / norms_a[there]) if there.any() else None


def _bins(cosines: npt.NDArray[np.float64]) -> list[int]:
    low = min(float(cosines.min()), 1 - 1e-6)
    return [int(count) for count in np.histogram(cosines, _BINS, (low, 1.0))[0]]


def _changed(
    photos: Sequence[str],
    cosines: npt.NDArray[np.float64] | None,
    shares: npt.NDArray[np.float64] | None,
    found: _Found | None,
) -> list[Changed]:
    measures = [values for values in (cosines, shares) if values is not None]
    if not measures:
        return []

    def names(neighbors: Neighbors, row: int) -> list[str]:
        return [photos[other] for other in neighbors[row, :_LISTED] if other >= 0]

    return [
        Changed(
            photo=photos[row],
            cosine=None if cosines is None else float(cosines[row]),
            recall_at_10=None if shares is None else float(shares[row]),
            neighbors_before=names(found.truth, row) if found else [],
            neighbors_after=names(found.after, row) if found else [],
        )
        # Who kept the fewest neighbors comes first, of these who turned most: the last key counts most.
        for row in np.lexsort(measures)[:_CHANGED].tolist()
    ]
