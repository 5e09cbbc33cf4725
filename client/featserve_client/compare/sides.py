"""Both sides together: which layers and photos they share, and their vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..bulk.parts import Progress
from ..exceptions import ConfigError, InvalidImageError
from .comparison import LayerComparison, compare_layer
from .rows import Rows
from .search import Search
from .side import Report, Side, photo_key
from .verdict import Thresholds, Verdict, judge


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that was found."""

    #: Name and facts of each side.
    a: Mapping[str, str]
    b: Mapping[str, str]
    photos: int
    #: Photos that were not compared, by reason.
    left_out: Mapping[str, int]
    #: The first error of a photo that was left out; empty if there was none.
    first_error: str
    #: Layers of each side that the other lacks.
    other_layers: Mapping[str, Sequence[str]]
    layers: Sequence[LayerComparison]
    thresholds: Thresholds
    verdict: Verdict


def pair_layers(a: Side, b: Side, wanted: str | None) -> list[tuple[str, str]]:
    """Returns the layers to compare, as their names in A and B.

    Args:
        a: one side.
        b: the other.
        wanted: a layer of both, `A=B` for layers with two names, or None for all that have the same name; if there
            are none, the layer of each side that `featserve embed` takes.

    Raises:
        ConfigError: a side lacks the layer; the text lists those that it has.
    """
    if wanted is None:
        return [(layer, layer) for layer in a.sizes if layer in b.sizes] or [(a.main_layer, b.main_layer)]
    first, _, second = wanted.partition("=")
    pair = (first, second or first)
    for side, layer in zip((a, b), pair, strict=True):
        if layer not in side.sizes:
            raise ConfigError(
                f"{side.name} has no layer {layer!r}; it has {', '.join(side.sizes)} (--layer A=B pairs two names)"
            )
    return [pair]


def compare(
    a: Side,
    b: Side,
    *,
    photos: Sequence[str] | None,
    layer: str | None,
    search: Search,
    thresholds: Thresholds,
    report: Report,
) -> Comparison:
    """Returns the comparison of two sides.

    Args:
        a: the side whose vectors are there.
        b: the side whose vectors may be put beside them.
        photos: image files; None if a side is a file, which names its own.
        layer: as for `pair_layers`.
        search: how neighbors are found.
        thresholds: what vectors need to be mixed.
        report: called after each photo that is read, then after some steps of the search.

    Raises:
        ConfigError: the sides share no photo, or lack a layer.
        InvalidImageError: no photo could be read.
        FeatserveError: a side fails in a way that is not about one photo.
    """
    pairs = pair_layers(a, b, layer)
    common = _Common.of(a, b, photos)
    search.check(len(common.photos))
    rows = common.read(a, b, pairs, report)
    broken = common.leave_out_broken(rows)
    steps = search.steps(len(common.photos))
    layers = []
    for place, pair in enumerate(pairs):
        searched = _Searched(place * steps, len(pairs) * steps, report)
        layers.append(
            compare_layer(
                pair,
                common.photos,
                rows,
                replace(search, report=searched.add),
                lengths=a.has_lengths and b.has_lengths,
                classes=_same_classes(a.labels.get(pair[0]), b.labels.get(pair[1])),
                broken=broken,
            )
        )
    compared_a, compared_b = zip(*pairs, strict=True)
    others = {"A": [name for name in a.sizes if name not in compared_a]}
    others["B"] = [name for name in b.sizes if name not in compared_b]
    return Comparison(
        a={"name": a.name, **a.facts},
        b={"name": b.name, **b.facts},
        photos=len(common.photos),
        left_out=common.left_out,
        first_error=common.first_error,
        other_layers=others,
        layers=layers,
        thresholds=thresholds,
        verdict=judge(layers, thresholds),
    )


class _Searched:
    def __init__(self, done: int, total: int, report: Report) -> None:
        self._done, self._total, self._report = done, total, report
        self.add(0)

    def add(self, steps: int) -> None:
        self._done += steps
        self._report(Progress(done=self._done, failed=0, total=self._total, what="searches"))


def _same_classes(a: tuple[str, ...] | None, b: tuple[str, ...] | None) -> bool:
    # A file does not carry the names: what the other side calls its classes holds for it, too.
    return (a or b) is not None and (a or b) == (b or a)


@dataclass
class _Common:
    photos: list[str]
    left_out: Counter[str] = field(default_factory=Counter)
    first_error: str = ""

    @classmethod
    def of(cls, a: Side, b: Side, photos: Sequence[str] | None) -> _Common:
        lists = {"--photos": photos, a.name: a.photos, b.name: b.photos}
        named = {name: {photo_key(path): path for path in paths} for name, paths in lists.items() if paths is not None}
        if not named:
            raise ConfigError("--photos is needed: no side is a file that names its photos")
        every = dict.fromkeys(key for keys in named.values() for key in keys)
        first = next(iter(named.values()))
        common = [key for key in first if all(key in keys for keys in named.values())]
        if not common:
            examples = ", ".join(f"{name} has {next(iter(keys.values()))}" for name, keys in named.items())
            raise ConfigError(f"the sides share no photo, by the names of their files: {examples}")
        found = cls(sorted(first[key] for key in common))
        for name, keys in named.items():
            found.left_out[f"not in {name}"] = len(every) - len(keys)
        found.left_out += Counter()  # drops the reasons that were counted as none
        return found

    def read(self, a: Side, b: Side, pairs: Sequence[tuple[str, str]], report: Report) -> tuple[Rows, Rows]:
        asked = [len(self.photos) if side.photos is None else 0 for side in (a, b)]

        def report_b(progress: Progress) -> None:
            done, failed = progress.done + asked[0], progress.failed + self.left_out["without a vector from A"]
            report(Progress(done=done, failed=failed, total=progress.total + asked[0]))

        def report_a(progress: Progress) -> None:
            report(replace(progress, total=progress.total + asked[1]))

        rows_a = self._read("A", a, [first for first, _ in pairs], [], report_a)
        rows_b = self._read("B", b, [second for _, second in pairs], [rows_a], report_b)
        both = list(zip(rows_a.sha256, rows_b.sha256, strict=True))
        same = np.array([not x or not y or x == y for x, y in both], bool)
        self._keep(same, "of other bytes in A than in B", (rows_a, rows_b))
        if not self.photos:
            raise ConfigError("the photos of A and B have the same names and other bytes: nothing can be compared")
        return rows_a, rows_b

    def _read(self, letter: str, side: Side, layers: list[str], before: list[Rows], report: Report) -> Rows:
        rows = Rows(len(self.photos), {layer: side.sizes[layer] for layer in layers})
        failures = side.read(self.photos, rows, report)
        if failures:
            self.first_error = self.first_error or next(iter(failures.values()))
            if len(failures) == len(self.photos):
                raise InvalidImageError(
                    side.name, f"none of {len(failures):,} photos gave a vector: {self.first_error}"
                )
        self._keep(rows.there, f"without a vector from {letter}", (rows, *before))
        return rows

    def leave_out_broken(self, rows: tuple[Rows, Rows]) -> dict[str, int]:
        """Leaves out photos with NaN or infinity; returns how many have it on one side alone, by side."""
        good_a, good_b = (side.finite() for side in rows)
        counts = {"A": int((~good_a & good_b).sum()), "B": int((good_a & ~good_b).sum())}
        if not (good_a & good_b).any():
            raise ConfigError("no photo has finite numbers on both sides: nothing can be compared")
        self._keep(good_a & good_b, "with NaN or infinity", rows)
        return {side: count for side, count in counts.items() if count}

    def _keep(self, good: np.ndarray[tuple[int], np.dtype[np.bool_]], reason: str, rows: Sequence[Rows]) -> None:
        kept = np.flatnonzero(good)
        if len(kept) == len(self.photos):
            return
        self.left_out[reason] += len(self.photos) - len(kept)
        self.photos = [self.photos[row] for row in kept]
        for side in rows:
            side.keep(kept)
