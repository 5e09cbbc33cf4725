"""Extraction of any number of files into one result file, which can be killed at any time and go on.

Beside the output stands a directory `<output>.partial`: `job.json` says what is extracted from what; `part-N.npz` holds
a fixed run of the input, written under another name, synced and renamed. What is there is whole; what is not is asked
for again. When all parts are there, they are joined in order into the output.
"""

from __future__ import annotations

import fcntl
import hashlib
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
from ..core.stream import Extracted, check_stream
from ..exceptions import FeatserveError, InvalidImageError, OutputError
from ..images.inputs import header_size, read_path
from ..model.metadata import ModelMetadata, choose
from .formats import Part, Results, check_layers, check_output, read_job, sync, write, write_lines

_FORMAT = 1
_JOB = "job.json"
#: A part holds about this many bytes, and no more than so many images.
_PART_BYTES = 32 * 2**20
_PART_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an extraction is."""

    done: int
    failed: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What an extraction came to."""

    output: Path
    rows: int
    layers: Mapping[str, tuple[int, ...]]
    failures: int
    #: Where they are listed; None if there are none.
    failures_file: Path | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """What makes two extractions the same."""

    model: str
    version: int
    layers: list[str]
    shapes: list[list[int]]
    weights_sha256: str | None
    decode: str
    images: int
    images_sha256: str
    part_images: int
    format: int = _FORMAT

    def differences(self, other: Mapping[str, Any]) -> str:
        """Say what is not the same, empty if all is."""
        return "; ".join(
            "the names of the images are others"
            if key == "images_sha256"
            else f"{key}: {other.get(key)!r} there, {value!r} now"
            for key, value in asdict(self).items()
            if other.get(key) != value
        )


def extract_files(
    client: FeatureClient,
    paths: Sequence[str],
    output: Path,
    *,
    layers: Sequence[str] | None = None,
    concurrency: int = 8,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Write the activations of files, sorted by name, into a result file.

    Args:
        client: Whom to ask.
        paths: The image files.
        output: `.npz`, `.npy`, `.parquet`, `.h5` or `.zarr`.
        layers: The layers wanted, all if None.
        concurrency: Requests in flight at most.
        resume: Go on where an extraction of the same was broken off.
        report: Called after each image.

    Raises:
        OutputError: The output cannot be written, or another extraction is in the way.
        FeatserveError: As for `FeatureClient.extract`, where it is not about one image.
    """
    check_output(output)
    check_stream(concurrency, "return")
    paths = sorted(set(paths), key=os.fsencode)
    known = client.metadata()
    shapes = _shapes(known, layers)
    check_layers(output, list(shapes))
    job = _job(client, known, shapes, paths)
    folder = partial_folder(output)
    if resume and output.exists() and not (folder / _JOB).exists():
        finished = read_job(output)
        differences = job.differences(finished) if finished is not None else "it names no extraction"
        if differences:
            raise OutputError(f"{output} is from another extraction; {differences}")
        shutil.rmtree(folder, ignore_errors=True)  # a removal that was broken off
        return _summary(output, job, shapes, int((finished or {}).get("failures", 0)))
    with _Folder(folder, job, resume=resume) as parts:
        pinned = client.pinned(known.version)
        try:
            parts.fill(pinned, paths, list(shapes), concurrency, report)
        finally:
            pinned.close()
        return _join(parts, output, job, shapes)


def partial_folder(output: Path) -> Path:
    """Where the parts of an output are while it is made."""
    return output.with_name(f"{output.name}.partial")


def _shapes(known: ModelMetadata, layers: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    choice = choose(known, "encoded", layers)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in choice.layers if layers is not None else known.layers:
        shape = choice.layers[layer].shape
        if shape is None or None in shape[1:]:
            raise OutputError(f"layer {layer!r} has no fixed shape: {choice.layers[layer]}")
        shapes[layer] = tuple(size or 0 for size in shape[1:])
    return shapes


def _job(
    client: FeatureClient, known: ModelMetadata, shapes: Mapping[str, tuple[int, ...]], paths: Sequence[str]
) -> Job:
    names = hashlib.sha256(b"\0".join(os.fsencode(path) for path in paths))
    row_bytes = 4 * sum(int(np.prod(shape)) for shape in shapes.values())
    weights = (known.manifest or {}).get("weights") or {}
    return Job(
        model=client.model,
        version=known.version,
        layers=list(shapes),
        shapes=[list(shape) for shape in shapes.values()],
        weights_sha256=weights.get("sha256"),
        decode=client.decode,
        images=len(paths),
        images_sha256=names.hexdigest(),
        part_images=max(1, min(_PART_IMAGES, _PART_BYTES // max(row_bytes, 1))),
    )


class _Folder:
    """The directory of parts, held by one process at a time."""

    def __init__(self, path: Path, job: Job, *, resume: bool) -> None:
        self.path = path
        self._job = job
        self._lock: int | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(f"{path} is in use by another process") from None
            begun, left = (path / _JOB).exists(), list(path.glob("part-*"))
            if begun and left and not resume:
                raise OutputError(f"{path} holds an unfinished extraction: go on with --resume, or delete it")
            if begun and resume:
                differences = job.differences(json.loads((path / _JOB).read_text()))
                if differences:
                    raise OutputError(f"{path} is of another extraction, which cannot go on as this one; {differences}")
            else:
                for part in left:  # without a job nobody knows what of
                    part.unlink()
                _write_whole(path / _JOB, lambda file: file.write(json.dumps(asdict(job)).encode()))
        except (OSError, ValueError) as exc:
            self.close()
            raise OutputError(f"{path}: {exc}") from exc
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove(self) -> None:
        (self.path / _JOB).unlink()  # first, so that a removal that is broken off leaves nothing to go on with
        shutil.rmtree(self.path)

    def part(self, number: int) -> Path:
        return self.path / f"part-{number:08d}.npz"

    @property
    def numbers(self) -> range:
        return range(-(-self._job.images // self._job.part_images))

    def fill(
        self,
        client: FeatureClient,
        paths: Sequence[str],
        layers: Sequence[str],
        concurrency: int,
        report: Callable[[Progress], None],
    ) -> None:
        """Extract all parts that are not there."""
        size = self._job.part_images
        missing = [number for number in self.numbers if not self.part(number).exists()]
        done = len(paths) - sum(len(paths[number * size : (number + 1) * size]) for number in missing)
        failed = 0
        # The client reads ahead: what it has taken and not yet answered.
        taken: deque[_File] = deque()
        limit = 2**63 if client.decode == "client" else client.limits.max_message_bytes

        def files() -> Iterator[BinaryIO]:
            for number in missing:
                for path in paths[number * size : (number + 1) * size]:
                    taken.append(_File(path, limit))
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
                arrays[f"layer{place}"][row] = result.features[layer]
        _write_whole(self.part(number), lambda file: np.savez(file, allow_pickle=False, **arrays))

    def parts(self) -> tuple[list[Part], list[dict[str, Any]]]:
        """Return all parts and all failures."""
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


def _join(folder: _Folder, output: Path, job: Job, shapes: Mapping[str, tuple[int, ...]]) -> Summary:
    try:
        parts, failures = folder.parts()
        failures_file = _failures_file(output)
        if failures:
            write_lines(failures_file, failures)
        else:
            failures_file.unlink(missing_ok=True)
        if len(failures) < job.images:
            write(output, Results(job=asdict(job) | {"failures": len(failures)}, layers=shapes, parts=parts))
        folder.remove()
    except (OSError, ValueError, KeyError) as exc:
        raise OutputError(f"{output} cannot be written: {exc}") from exc
    if len(failures) == job.images:
        raise OutputError(f"none of {job.images} images could be extracted, see {failures_file}")
    return _summary(output, job, shapes, len(failures))


def _summary(output: Path, job: Job, shapes: Mapping[str, tuple[int, ...]], failures: int) -> Summary:
    return Summary(
        output=output,
        rows=job.images - failures,
        layers=shapes,
        failures=failures,
        failures_file=_failures_file(output) if failures else None,
    )


def _failures_file(output: Path) -> Path:
    return output.with_name(f"{output.name}.failures.jsonl")


class _File:
    """An input, read by one of the stream's threads; `fact` is what stands beside its row."""

    def __init__(self, path: str, limit: int) -> None:
        self.name = path
        self.fact: dict[str, Any] = {"path": path, "width": 0, "height": 0, "sha256": ""}
        self._limit = limit

    def read(self) -> bytes:
        if os.path.exists(self.name) and not os.path.isfile(self.name) and not os.path.isdir(self.name):
            raise InvalidImageError(self.name, "is no file, but a pipe, socket or device")  # reading may never end
        data = read_path(self.name, self.name, self._limit)
        self.fact["sha256"] = hashlib.sha256(data).hexdigest()
        try:
            self.fact["width"], self.fact["height"] = header_size(self.name, data)
        except FeatserveError:  # the server may read what Pillow does not
            pass
        return data


def _write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync(path.parent)
