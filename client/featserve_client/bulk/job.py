"""Extraction of any number of files into one result file, which can be killed at any time and go on.

Beside the output stands a directory `<output>.partial`: `job.json` says what is extracted from what; `part-N.npz` holds
a fixed run of the input, written under another name, synced and renamed. What is there is whole; what is not is asked
for again. When all parts are there, they are joined in order into the output.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..client import FeatureClient
from ..core.stream import check_stream
from ..core.vectors import VectorKind, vector_layer, vector_shape
from ..durable import write_lines
from ..exceptions import OutputError
from ..model.manifest import Manifest
from ..model.metadata import ModelMetadata
from ..model.selection import select_signature
from .formats import Results, check_layer_count, check_output, read_job, write
from .parts import JOB_FILE, Job, PartsFolder, Progress

#: A part holds about this many bytes, and no more than so many images.
_PART_BYTES = 32 * 2**20
_PART_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The outcome of an extraction."""

    output: Path
    rows: int
    layers: Mapping[str, tuple[int, ...]]
    failures: int
    #: The file that lists the failures; None if there are none.
    failures_file: Path | None


def extract_files(
    client: FeatureClient,
    paths: Sequence[str],
    output: Path,
    *,
    layers: Sequence[str] | None = None,
    concurrency: int = 8,
    resume: bool = False,
    vectors: VectorKind | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Writes the activations of files, sorted by name, into a result file.

    Args:
        client: the client that asks.
        paths: the image files.
        output: `.npz`, `.npy`, `.parquet`, `.h5` or `.zarr`.
        layers: the layers wanted, all if None.
        concurrency: requests in flight at most.
        resume: go on where an extraction of the same was broken off.
        vectors: make one vector of each image's activations, as `FeatureClient.embed`; of one layer if none is named.
        report: called after each image.

    Raises:
        OutputError: the output cannot be written, or another extraction is in the way.
        FeatserveError: a call fails as `FeatureClient.extract` lists, where that is not about one image.
    """
    check_output(output)
    check_stream(concurrency, "return")
    paths = sorted(set(paths), key=os.fsencode)
    known = client.metadata()
    if vectors is not None and layers is None:
        layers = [vector_layer(known, None)]
    shapes = _shapes(known, layers)
    if vectors is not None:
        shapes = {layer: vector_shape(shape) for layer, shape in shapes.items()}
    check_layer_count(output, list(shapes))
    job = _job(client, known, shapes, paths, vectors)
    folder = partial_folder(output)
    if resume and output.exists() and not (folder / JOB_FILE).exists():
        finished = read_job(output)
        differences = job.differences(finished) if finished is not None else "it names no extraction"
        if differences:
            raise OutputError(f"{output} is from another extraction; {differences}")
        shutil.rmtree(folder, ignore_errors=True)  # what a removal that was broken off has left
        return _summary(output, job, shapes, int((finished or {}).get("failures", 0)))
    with PartsFolder(folder, job, resume=resume) as parts:
        pinned = client.pinned(known.version)
        try:
            parts.fill(pinned, paths, list(shapes), concurrency, report)
        finally:
            pinned.close()
        return _join(parts, output, job, shapes)


def partial_folder(output: Path) -> Path:
    """Returns the directory that holds the parts of an output while it is made."""
    return output.with_name(f"{output.name}.partial")


def _shapes(known: ModelMetadata, layers: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    offered = select_signature(known, "encoded", layers).layers
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in offered if layers is not None else known.layers:
        shape = offered[layer].shape
        if shape is None or None in shape[1:]:
            raise OutputError(f"layer {layer!r} has no fixed shape: {offered[layer]}")
        shapes[layer] = tuple(size or 0 for size in shape[1:])
    return shapes


def _job(
    client: FeatureClient,
    known: ModelMetadata,
    shapes: Mapping[str, tuple[int, ...]],
    paths: Sequence[str],
    vectors: VectorKind | None,
) -> Job:
    names = hashlib.sha256(b"\0".join(os.fsencode(path) for path in paths))
    row_bytes = 4 * sum(int(np.prod(shape)) for shape in shapes.values())
    return Job(
        model=client.model,
        version=known.version,
        layers=list(shapes),
        shapes=[list(shape) for shape in shapes.values()],
        weights_sha256=Manifest.parse(known.manifest or {}).weights.sha256,
        decode=client.decode,
        images=len(paths),
        images_sha256=names.hexdigest(),
        vectors=vectors,
        part_images=max(1, min(_PART_IMAGES, _PART_BYTES // max(row_bytes, 1))),
    )


def _join(folder: PartsFolder, output: Path, job: Job, shapes: Mapping[str, tuple[int, ...]]) -> Summary:
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
        raise OutputError(
            f"none of {job.images} images could be extracted, see {failures_file}; the first: {failures[0]['error']}"
        )
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
