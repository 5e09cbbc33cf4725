"""Extraction of any number of files into one result file, which can be killed at any time and go on.

Beside the output stands a directory `<output>.partial`: `job.json` says what is extracted from what; `part-N.npz` holds
a fixed run of the input, written under another name, synced and renamed. What is there is whole; what is not is asked
for again. When all parts are there, they are joined in order into the output.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ._client import FeatureClient
from ._exceptions import FeatserveError, OutputError
from ._images import ImageLike, header_size
from ._signatures import ModelMetadata, choose
from ._stream import Extracted
from ._writers import Part, Results, check_layers, check_output, read_job, sync, write, write_lines

_FORMAT = 1
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
        texts = {"images_sha256": "the names of the images", "shapes": "the shapes of the layers"}
        return "; ".join(
            f"{texts.get(key, key)}: {other.get(key)!r} there, {value!r} now"
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
    paths = sorted(set(paths), key=os.fsencode)
    known = client.metadata()
    shapes = _shapes(known, layers)
    check_layers(output, list(shapes))
    job = _job(client, known, shapes, paths)
    finished = read_job(output) if resume and output.exists() else None
    folder = output.with_name(f"{output.name}.partial")
    if resume and output.exists() and not folder.exists():
        differences = job.differences(finished or {}) if finished is not None else "it names no extraction"
        if differences:
            raise OutputError(f"{output} is from another extraction; {differences}")
        return _summary(output, job, shapes, int((finished or {}).get("failures", 0)))
    with _Folder(folder, job, resume=resume) as parts:
        pinned = client.pinned(known.version)
        try:
            parts.fill(pinned, paths, list(shapes), concurrency, report)
        finally:
            pinned.close()
        return _join(parts, output, job, shapes)


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
        made = json.dumps(asdict(job))
        try:
            if path.exists() and not resume and (path / "job.json").exists():
                raise OutputError(f"{path} holds an unfinished extraction: go on with --resume, or delete it")
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(f"{path} is in use by another process") from None
            if (path / "job.json").exists():
                differences = job.differences(json.loads((path / "job.json").read_text()))
                if differences:
                    raise OutputError(f"{path} is of another extraction, which cannot go on as this one; {differences}")
            else:
                _write_whole(path / "job.json", lambda file: file.write(made.encode()))
        except (OSError, ValueError) as exc:
            self.close()
            raise OutputError(f"{path}: {exc}") from exc
        except OutputError:
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
        facts: dict[int, dict[str, Any]] = {}
        wanted = [path for number in missing for path in paths[number * size : (number + 1) * size]]
        limit = None if client.decode == "client" else client.limits.max_message_bytes
        images = _read(wanted, facts, limit)
        results = client.extract_iter(images, layers, concurrency=concurrency, on_error="return")
        report(Progress(done=done, failed=failed, total=len(paths)))
        for number in missing:
            rows: list[tuple[dict[str, Any], Extracted]] = []
            for _ in paths[number * size : (number + 1) * size]:
                result = next(results)
                if result.version not in (0, self._job.version):
                    raise OutputError(f"the model changed from version {self._job.version} to {result.version}")
                rows.append((facts.pop(result.index), result))
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
            path = self.part(number)
            with np.load(path, allow_pickle=False) as archive:
                text = json.loads(archive["rows"].tobytes())
            failures += text["failures"]
            parts.append(Part(rows=text["rows"], load=_loader(path, self._job.layers)))
        return parts, failures


def _loader(path: Path, layers: Sequence[str]) -> Callable[[str], npt.NDArray[np.float32]]:
    def load(layer: str) -> npt.NDArray[np.float32]:
        with np.load(path, allow_pickle=False) as archive:
            array: npt.NDArray[np.float32] = archive[f"layer{layers.index(layer)}"]
            return array

    return load


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


def _read(paths: Sequence[str], facts: dict[int, dict[str, Any]], limit: int | None) -> Iterator[ImageLike]:
    """Yield the files' bytes; what stands beside each row goes into `facts`."""
    for index, path in enumerate(paths):
        fact: dict[str, Any] = {"path": path, "width": 0, "height": 0, "sha256": ""}
        facts[index] = fact
        try:
            with open(path, "rb") as file:
                large = limit is not None and os.fstat(file.fileno()).st_size > limit
                data = b"" if large else file.read()
        except (OSError, ValueError):
            large = True
        if large:
            yield path  # what is wrong with it, the client says when it opens it
            continue
        fact["sha256"] = hashlib.sha256(data).hexdigest()
        try:
            fact["width"], fact["height"] = header_size(path, data)
        except FeatserveError:  # the server may read what Pillow does not
            pass
        yield _NamedBytes(data, path)


class _NamedBytes(io.BytesIO):
    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def _write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync(path.parent)
