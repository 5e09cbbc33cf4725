"""The parts of an extraction: what they are of, which are there, and the filling of those that are not."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..client import FeatureClient
from ..core.stream import Extracted
from ..core.vectors import VectorKind, to_vectors
from ..durable import write_whole
from ..exceptions import OutputError
from .formats import Part
from .input_file import InputFile

_FORMAT = 1
JOB_FILE = "job.json"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How much of long work is done."""

    done: int
    failed: int
    total: int
    #: What is counted.
    what: str = "images"


@dataclass(frozen=True, kw_only=True)
class Job:
    """An extraction: two with equal fields are the same, and the second may go on with the parts of the first."""

    model: str
    version: int
    layers: list[str]
    shapes: list[list[int]]
    weights_sha256: str | None
    decode: str
    images: int
    images_sha256: str
    part_images: int
    #: How activations became vectors; None where they are kept as they are.
    vectors: VectorKind | None = None
    format: int = _FORMAT

    def differences(self, other: Mapping[str, Any]) -> str:
        """Returns the differences from another extraction, as text; empty if there are none."""
        return "; ".join(
            "the names of the images are others"
            if key == "images_sha256"
            else f"{key}: {other.get(key)!r} there, {value!r} now"
            for key, value in asdict(self).items()
            if other.get(key) != value
        )


class PartsFolder:
    """The directory of parts, held by one process at a time."""

    def __init__(self, path: Path, job: Job, *, resume: bool) -> None:
        self.path = path
        self._job = job
        self._lock: int | None = None
        begun = True
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(f"{path} is in use by another process") from None
            begun, left = (path / JOB_FILE).exists(), list(path.glob("part-*"))
            if begun and left and not resume:
                raise OutputError(f"{path} holds an unfinished extraction: go on with --resume, or delete it")
            if begun and resume:
                differences = job.differences(json.loads((path / JOB_FILE).read_text()))
                if differences:
                    raise OutputError(f"{path} is of another extraction, which cannot go on as this one; {differences}")
            else:
                for part in left:  # without the job, nobody knows what the parts are of
                    part.unlink()
                write_whole(path / JOB_FILE, lambda file: file.write(json.dumps(asdict(job)).encode()))
        except (OSError, ValueError) as exc:
            if not begun:  # there is nothing to go on with
                shutil.rmtree(path, ignore_errors=True)
            self.close()
            raise OutputError(f"{path} cannot be written: {exc}") from exc
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PartsFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets other processes have the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove(self) -> None:
        """Deletes the directory; an extraction cannot go on from there."""
        (self.path / JOB_FILE).unlink()  # first, so that a removal that is broken off leaves nothing to go on with
        shutil.rmtree(self.path)

    def part(self, number: int) -> Path:
        """Returns where a part is, or will be."""
        return self.path / f"part-{number:08d}.npz"

    @property
    def numbers(self) -> range:
        """The numbers of all parts."""
        return range(-(-self._job.images // self._job.part_images))

    def fill(
        self,
        client: FeatureClient,
        paths: Sequence[str],
        layers: Sequence[str],
        concurrency: int,
        report: Callable[[Progress], None],
    ) -> None:
        """Extracts all parts that are not there."""
        size = self._job.part_images
        missing = [number for number in self.numbers if not self.part(number).exists()]
        done = len(paths) - sum(len(paths[number * size : (number + 1) * size]) for number in missing)
        failed = 0
        # The client reads ahead of its answers: these are the files that it has taken and not yet answered.
        taken: deque[InputFile] = deque()
        limit = 2**63 if client.decode == "client" else client.limits.max_message_bytes

        def files() -> Iterator[BinaryIO]:
            for number in missing:
                for path in paths[number * size : (number + 1) * size]:
                    taken.append(InputFile(path, limit))
                    yield taken[-1]  # type: ignore[misc]  # of a binary file, only this is used

        report(Progress(done=done, failed=failed, total=len(paths)))
        with closing(client.extract_iter(files(), layers, concurrency=concurrency, on_error="return")) as results:
            for number in missing:
                rows: list[tuple[dict[str, Any], Extracted]] = []
                for _ in paths[number * size : (number + 1) * size]:
                    result = next(results)
                    if result.version not in (0, self._job.version):
                        raise OutputError(f"the model changed from version {self._job.version} to {result.version}")
                    rows.append((taken.popleft().fact, result))
                    done, failed = done + 1, failed + (result.error is not None)
                    report(Progress(done=done, failed=failed, total=len(paths)))
                try:
                    self._write(number, rows, layers)
                except OSError as exc:
                    raise OutputError(f"{self.part(number)} cannot be written: {exc}") from exc

    def _write(self, number: int, rows: Sequence[tuple[dict[str, Any], Extracted]], layers: Sequence[str]) -> None:
        good = [(fact, result) for fact, result in rows if result.error is None]
        bad = [
            {"path": fact["path"], "kind": type(result.error).__name__, "error": str(result.error)}
            for fact, result in rows
            if result.error is not None
        ]
        text = json.dumps({"rows": [fact for fact, _ in good], "failures": bad}).encode()
        arrays: dict[str, npt.NDArray[Any]] = {"rows": np.frombuffer(text, np.uint8)}
        for place, layer in enumerate(layers):
            shape = (len(good), *self._job.shapes[place])
            arrays[f"layer{place}"] = np.empty(shape, np.float32)
            for row, (_, result) in enumerate(good):
                features = result.features[layer]
                if self._job.vectors is not None:
                    features = to_vectors(features[np.newaxis], self._job.vectors)[0]
                arrays[f"layer{place}"][row] = features
        write_whole(self.part(number), lambda file: np.savez(file, allow_pickle=False, **arrays))

    def parts(self) -> tuple[list[Part], list[dict[str, Any]]]:
        """Returns all parts and all failures."""
        parts, failures = [], []
        for number in self.numbers:
            text = _text(self.part(number))
            failures += text["failures"]
            parts.append(_part(self.part(number), len(text["rows"]), self._job.layers))
        return parts, failures


def _part(path: Path, count: int, layers: Sequence[str]) -> Part:
    def load(layer: str) -> npt.NDArray[np.float32]:
        with np.load(path, allow_pickle=False) as archive:
            array: npt.NDArray[np.float32] = archive[f"layer{layers.index(layer)}"]
            return array

    return Part(count=count, rows=lambda: _text(path)["rows"], load=load)


def _text(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as archive:
        return json.loads(archive["rows"].tobytes())
