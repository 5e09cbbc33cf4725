"""One side of a comparison: a served model, or a file of vectors."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from ..bulk.input_file import InputFile
from ..bulk.parts import Progress
from ..bulk.reading import read_results
from ..client import FeatureClient
from ..core.vectors import to_vectors, vector_layer, vector_shape
from ..exceptions import ConfigError, OutputError
from ..model.manifest import Manifest
from ..model.selection import select_signature
from .rows import Rows

Report = Callable[[Progress], None]


class Side(Protocol):
    """The common part of both kinds of sides."""

    @property
    def name(self) -> str:
        """The side as the user named it."""

    @property
    def facts(self) -> Mapping[str, str]:
        """The model as far as it is known: its name, version, precision and weights."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Size of a photo's vector by layer."""

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """Names of classes by layer, of classifiers."""

    @property
    def main_layer(self) -> str:
        """The layer that `featserve embed` takes."""

    @property
    def has_lengths(self) -> bool:
        """Whether the vectors' lengths are those that the model gave."""

    @property
    def photos(self) -> Sequence[str] | None:
        """The photos that it has vectors of, as it names them; None if it takes any."""

    def read(self, photos: Sequence[str], rows: Rows, report: Report) -> dict[int, str]:
        """Reads the vectors of photos into `rows`; returns why some could not be, by row.

        Raises:
            FeatserveError: the side fails in a way that is not about one photo.
        """


class ServedSide:
    """A model of a server, held to the version that it has now."""

    has_lengths = True
    photos = None

    def __init__(self, name: str, client: FeatureClient) -> None:
        known = client.metadata()
        manifest = Manifest.parse(known.manifest or {})
        self.name = name
        self.facts = {"model": known.model, "version": str(known.version)}
        if known.manifest is not None:
            self.facts["precision"] = manifest.precision
        if manifest.weights.sha256:
            self.facts["weights"] = manifest.weights.sha256[:12]
        self.sizes = {}
        for layer, spec in select_signature(known, "encoded", None).layers.items():
            shape = (spec.shape or (None, None))[1:]
            if None not in shape:
                self.sizes[layer] = vector_shape(tuple(size or 0 for size in shape))[0]
        if not self.sizes:
            raise ConfigError(f"{name}: no layer has a fixed shape; it has {known.describe_signatures()}")
        self.labels = manifest.labels
        self.main_layer = vector_layer(known, None)
        self._client = client
        self._version = known.version

    def read(self, photos: Sequence[str], rows: Rows, report: Report) -> dict[int, str]:
        """Asks the server for the vectors of photos."""
        failures: dict[int, str] = {}
        # The client reads ahead of its answers: these are the files that it has taken and not yet answered.
        taken: deque[InputFile] = deque()
        limit = 2**63 if self._client.decode == "client" else self._client.limits.max_message_bytes

        def files() -> Iterator[BinaryIO]:
            for path in photos:
                taken.append(InputFile(path, limit))
                yield taken[-1]  # type: ignore[misc]  # of a binary file, only this is used

        layers = list(rows.unit)
        report(Progress(done=0, failed=0, total=len(photos)))
        with self._client.pinned(self._version) as pinned:
            with closing(pinned.extract_iter(files(), layers, on_error="return")) as results:
                for row, result in enumerate(results):
                    fact = taken.popleft().fact
                    if result.error is not None:
                        failures[row] = str(result.error)
                    else:
                        for layer in layers:
                            vector = to_vectors(result.features[layer][np.newaxis], "mean")
                            rows.put(layer, np.array([row]), vector)
                        rows.sha256[row] = fact["sha256"]
                    report(Progress(done=row + 1, failed=len(failures), total=len(photos)))
        return failures


class FileSide:
    """A .npz or .parquet of `featserve embed` or `featserve extract`."""

    labels: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, path: Path) -> None:
        self._file = read_results(path)
        job = self._file.job
        self.name = str(path)
        self.facts = {key: str(job[key]) for key in ("model", "version") if job.get(key) is not None}
        if job.get("weights_sha256"):
            self.facts["weights"] = str(job["weights_sha256"])[:12]
        self.sizes = {layer: vector_shape(shape)[0] for layer, shape in self._file.layers.items()}
        self.main_layer = list(self.sizes)[-1]
        self.has_lengths = job.get("vectors") != "mean-l2"
        self.photos: Sequence[str] = self._file.photos
        self._rows = {photo_key(photo): row for row, photo in enumerate(self.photos)}
        if len(self._rows) < len(self.photos):
            counts = Counter(map(photo_key, self.photos))
            twice = next(photo for photo in self.photos if counts[photo_key(photo)] > 1)
            raise OutputError(f"{path} has more than one row of {twice}; expected one of each photo")

    def read(self, photos: Sequence[str], rows: Rows, report: Report) -> dict[int, str]:
        """Reads the vectors of photos from the file, too soon done for a progress."""
        wanted = np.full(len(self.photos), -1, np.intp)
        for row, photo in enumerate(photos):
            there = self._rows[photo_key(photo)]
            wanted[there] = row
            rows.sha256[row] = self._file.sha256[there] or ""
        for layer in rows.unit:
            for start, run in self._file.runs(layer):
                into = wanted[start : start + len(run)]
                rows.put(layer, into[into >= 0], to_vectors(run, "mean")[into >= 0])
        return {}


def photo_key(path: str) -> str:
    """Returns the name of a photo on either side: its absolute path, odd bytes spelled out as in a .parquet."""
    return os.path.abspath(path).encode("utf-8", "backslashreplace").decode()
