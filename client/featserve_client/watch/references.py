"""The references of all versions that are watched, and the file that remembers them from one run to the next."""

from __future__ import annotations

import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..durable import write_whole
from ..exceptions import OutputError
from .closeness import Sample
from .reference import Probe, Reference, check_precision, exported_reference

_FORMAT = 1


class References:
    """The reference of each version of each model. Safe to share between threads."""

    def __init__(self, exports: Iterable[Path] = (), file: Path | None = None) -> None:
        """Reads the references that are known from the start.

        Args:
            exports: directories of exported versions, which count more than what servers say.
            file: where the references that servers gave are remembered; it need not be there yet.

        Raises:
            OutputError: a directory is no exported version, or the file cannot be read.
        """
        self._lock = threading.Lock()
        self._exported = dict(map(exported_reference, exports))
        self._file = file
        self._seen = _read(file) if file is not None and file.exists() else {}
        self._changed = False

    def get(self, model: str, version: int) -> Reference | None:
        """Returns the reference of a version; None if it has none yet."""
        with self._lock:
            return self._exported.get((model, version)) or self._seen.get((model, version))

    def keep(self, model: str, version: int, reference: Reference) -> Reference:
        """Takes the reference of a version, and returns the one that holds from now on.

        The first that came stays, but for a canary's answer that it lacks.
        """
        with self._lock:
            place = self._exported if (model, version) in self._exported else self._seen
            known = place.get((model, version))
            if known is None or (known.source == reference.source and len(known.probes) <= len(reference.probes)):
                place[model, version] = reference
                self._changed = True
            return place[model, version]

    def save(self) -> None:
        """Writes the file, if there is one and something is new.

        Raises:
            OutputError: the file cannot be written.
        """
        with self._lock:
            if self._file is None or not self._changed:
                return
            versions = [_to_json(*key, reference) for key, reference in sorted(self._seen.items())]
            text = json.dumps({"format": _FORMAT, "versions": versions})
            try:
                write_whole(self._file, lambda file: file.write(text.encode()))
            except OSError as exc:
                raise OutputError(f"{self._file} cannot be written: {exc}") from exc
            self._changed = False


def _read(file: Path) -> dict[tuple[str, int], Reference]:
    try:
        data = json.loads(file.read_bytes())
        if data["format"] != _FORMAT:
            raise ValueError(f"its format is {data['format']!r}, expected {_FORMAT}")
        return {(str(item["model"]), int(item["version"])): _from_json(item) for item in data["versions"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise OutputError(f"{file} is no file of featserve watch --remember: {exc}; delete it to begin anew") from exc


def _to_json(model: str, version: int, reference: Reference) -> dict[str, Any]:
    return {
        "model": model,
        "version": version,
        "identity": dict(reference.identity),
        "source": reference.source,
        "precision": reference.precision,
        "probes": [
            {
                "name": probe.name,
                "image": b64encode(probe.image).decode(),
                "expected": {
                    layer: {"values": sample.values.tolist(), "positions": sample.positions.tolist()}
                    for layer, sample in probe.expected.items()
                    if sample.positions is not None
                },
            }
            for probe in reference.probes
        ],
    }


def _from_json(item: dict[str, Any]) -> Reference:
    return Reference(
        identity={str(key): str(value) for key, value in item["identity"].items()},
        source=str(item["source"]),
        precision=check_precision(item["precision"]),
        probes=tuple(
            Probe(
                name=str(probe["name"]),
                image=b64decode(probe["image"]),
                expected={
                    layer: Sample(
                        values=np.asarray(sample["values"], np.float32),
                        positions=np.asarray(sample["positions"], np.int32),
                    )
                    for layer, sample in probe["expected"].items()
                },
            )
            for probe in item["probes"]
        ),
    )
