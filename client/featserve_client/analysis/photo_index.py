"""An index of photos by their vectors: a .usearch file, and beside it the photos and the source of the vectors.

`<index>.json` names the model whose vectors these are, and the photo of each key; usearch's own file has room for
neither.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..exceptions import OutputError
from ..extras import require
from ..model.manifest import Manifest
from ..model.metadata import ModelMetadata

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class VectorSource:
    """The source of vectors: only vectors of equal sources can be compared."""

    model: str
    layer: str
    weights_sha256: str | None
    precision: str
    preprocessing: Mapping[str, Any] | None

    @classmethod
    def of(cls, model: ModelMetadata, layer: str) -> VectorSource:
        """Returns the source of the vectors of a served model's layer."""
        manifest = Manifest.parse(model.manifest or {})
        return cls(
            model=model.model,
            layer=layer,
            weights_sha256=manifest.weights.sha256,
            precision=manifest.precision,
            preprocessing=asdict(manifest.preprocessing) if manifest.preprocessing else None,
        )

    def differences(self, other: VectorSource) -> str:
        """Returns the differences from another source, as text; empty if there are none."""
        mine, others = _flat(asdict(self)), _flat(asdict(other))
        return "; ".join(
            f"{key}: {others.get(key)!r} there, {mine.get(key)!r} now"
            for key in {**mine, **others}
            if mine.get(key) != others.get(key)
        )


class PhotoIndex:
    """Photos, findable by vectors like theirs."""

    def __init__(self, index: Any, paths: Sequence[str], source: VectorSource) -> None:
        self._index = index
        self.paths = paths
        self.source = source

    def nearest(
        self, query: npt.NDArray[np.float32], count: int, *, without: str
    ) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Returns the photos most like a vector, best first, and their cosines; approximate beyond thousands.

        Args:
            query: `(D,)` float32 of length 1.
            count: photos wanted.
            without: a photo to leave out: the one that the vector is of.
        """
        found = self._index.search(query, min(count + 1, len(self.paths)))
        pairs = [
            (self.paths[int(key)], 1 - float(distance))
            for key, distance in zip(found.keys, found.distances, strict=True)
            if Path(self.paths[int(key)]).absolute() != Path(without).absolute()
        ][:count]
        return [path for path, _ in pairs], np.array([cosine for _, cosine in pairs], np.float32)

    def check_source(self, now: VectorSource, path: Path) -> None:
        """Refuses to compare the index with vectors of another source.

        Raises:
            OutputError: the index is of another model, layer, precision or preprocessing; the text says what differs.
        """
        if differences := now.differences(self.source):
            raise OutputError(f"{path} is of other vectors than the server gives: {differences}; make it anew")


def check_index(path: Path) -> None:
    """Refuses a path that cannot become an index, before any work is done.

    Raises:
        OutputError: the suffix is not `.usearch`.
        MissingExtraError: usearch is not installed.
    """
    if path.suffix != ".usearch":
        raise OutputError(f"{path}: unknown kind of index; expected .usearch")
    require("usearch.index", "pictures", "an index")


def write_index(path: Path, source: VectorSource, rows: Iterable[tuple[str, npt.NDArray[np.float32]]]) -> int:
    """Writes the index of photos and their vectors, `(D,)` float32 of length 1; returns how many there are.

    Raises:
        OutputError: there is no row, or a file cannot be written.
    """
    usearch = require("usearch.index", "pictures", "an index")
    index = None
    paths: list[str] = []
    for name, vector in rows:
        if index is None:
            index = usearch.Index(ndim=len(vector), metric=usearch.MetricKind.Cos, dtype="f32")
        index.add(len(paths), vector)
        paths.append(name)
    if index is None:
        raise OutputError(f"{path}: no photo could be extracted")
    temporary = path.with_name(f".{path.name}.tmp")
    about = {"format": _FORMAT, "source": asdict(source), "paths": paths}
    try:
        index.save(str(temporary))
        _about(temporary).write_bytes(json.dumps(about).encode("utf-8", "surrogateescape"))
        os.replace(temporary, path)
        os.replace(_about(temporary), _about(path))
    except (OSError, RuntimeError) as exc:
        for left in (temporary, _about(temporary)):
            with contextlib.suppress(OSError):
                left.unlink()
        raise OutputError(f"{path} cannot be written: {exc}") from exc
    return len(paths)


def read_index(path: Path) -> PhotoIndex:
    """Returns an index that `write_index` wrote.

    Raises:
        OutputError: a file is missing or cannot be read, or the two do not belong together.
    """
    usearch = require("usearch.index", "pictures", "an index")
    try:
        about = json.loads(_about(path).read_bytes().decode("utf-8", "surrogateescape"))
        source, paths = VectorSource(**about["source"]), list(about["paths"])
        if not path.is_file():
            raise OSError("no such file")
        index = usearch.Index.restore(str(path))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as exc:
        raise OutputError(f"{path} is no index of featserve index: {exc}") from exc
    if index is None or len(index) != len(paths):
        raise OutputError(f"{path} and {_about(path).name} do not belong together: make the index anew")
    return PhotoIndex(index, paths, source)


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields with those of the preprocessing among them."""
    return {key: value for key, value in fields.items() if key != "preprocessing"} | (fields["preprocessing"] or {})


def _about(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
