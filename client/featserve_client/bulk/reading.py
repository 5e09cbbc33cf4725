"""Result files read back, a run of rows at a time: .npz and .parquet."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..exceptions import ConfigError, OutputError
from ..extras import require
from .formats import COLUMNS, read_job

#: A run of rows holds about this many bytes.
_RUN_BYTES = 16 * 2**20

_Run = tuple[int, npt.NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class ResultFile:
    """The columns of a result file; its activations are read by `runs`."""

    path: Path
    #: What the rows are of, as the file names them.
    photos: Sequence[str]
    #: The hash of each photo's bytes; empty where the file has none.
    sha256: Sequence[str]
    #: Shapes without the row.
    layers: Mapping[str, tuple[int, ...]]
    #: The extraction that wrote the file; empty where it names none.
    job: Mapping[str, Any]
    _runs: Callable[[str], Iterator[npt.NDArray[np.float32]]]

    def runs(self, layer: str) -> Iterator[_Run]:
        """Yields the first row's number and the activations `(rows, ...)` float32 of each run of rows.

        Raises:
            OutputError: the file breaks off.
        """
        start = 0
        try:
            for run in self._runs(layer):
                yield start, run
                start += len(run)
        except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as exc:
            raise OutputError(f"{self.path} cannot be read: {exc}") from exc


def read_results(path: Path) -> ResultFile:
    """Returns a file that `featserve embed` or `featserve extract` wrote.

    Raises:
        ConfigError: the suffix is neither .npz nor .parquet.
        OutputError: the file cannot be read, or is no such output.
        MissingExtraError: the file is a .parquet, and pyarrow is not installed.
    """
    readers = {".npz": _read_npz, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise ConfigError(f"{path}: expected .npz or .parquet")
    try:
        found = readers[path.suffix](path)
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as exc:
        raise OutputError(f"{path} cannot be read: {exc}") from exc
    if not found.photos:
        raise OutputError(f"{path} has no rows")
    if not found.layers:
        raise OutputError(f"{path} holds no activations")
    return found


def _read_npz(path: Path) -> ResultFile:
    # Of a path that is no archive, numpy leaves the file open.
    with open(path, "rb") as data, zipfile.ZipFile(data), np.load(data, allow_pickle=False) as archive:
        if "path" not in archive.files:
            raise OutputError(f"{path} is not an output of featserve: it has no 'path', but {', '.join(archive.files)}")
        photos = [str(name) for name in archive["path"].tolist()]
        sha256 = [str(text) for text in archive["sha256"].tolist()] if "sha256" in archive.files else [""] * len(photos)
        names = [name for name in archive.files if name not in COLUMNS and name != "featserve"]
    layers = {}
    with zipfile.ZipFile(path) as members:
        for name in names:
            with members.open(f"{name}.npy") as file:
                shape, _ = _header(file, name)
            if shape[0] != len(photos):
                raise OutputError(f"{path}: layer {name!r} has {shape[0]} rows; 'path' has {len(photos)}")
            layers[name] = shape[1:]

    def runs(layer: str) -> Iterator[npt.NDArray[np.float32]]:
        with zipfile.ZipFile(path) as members, members.open(f"{layer}.npy") as file:
            shape, dtype = _header(file, layer)
            row_bytes = max(int(np.prod(shape[1:])) * dtype.itemsize, 1)
            step = max(_RUN_BYTES // row_bytes, 1)
            for start in range(0, shape[0], step):
                rows = min(step, shape[0] - start)
                data = file.read(rows * row_bytes)
                if len(data) != rows * row_bytes:
                    raise EOFError(f"layer {layer!r} breaks off in row {start + len(data) // row_bytes}")
                yield np.frombuffer(data, dtype).reshape(rows, *shape[1:]).astype(np.float32, copy=False)

    return ResultFile(path=path, photos=photos, sha256=sha256, layers=layers, job=read_job(path) or {}, _runs=runs)


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"array {name!r} is of .npy version {version}")
    shape, fortran, dtype = readers[version](file)
    if fortran or dtype.kind != "f" or len(shape) < 2:
        order = "columns first" if fortran else "rows first"
        raise ValueError(f"array {name!r} is {dtype} {shape}, {order}; expected floats (N, ...), rows first")
    return shape, dtype


def _read_parquet(path: Path) -> ResultFile:
    parquet = require("pyarrow.parquet", "bulk", "reading .parquet")
    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        layers = {field.name: tuple(field.type.shape) for field in schema if getattr(field.type, "shape", None)}
        if "path" not in schema.names:
            raise OutputError(f"{path} is not an output of featserve: it has no 'path', but {', '.join(schema.names)}")
        columns = ["path", "sha256"] if "sha256" in schema.names else ["path"]
        table = file.read(columns)
    photos = table.column("path").to_pylist()
    sha256 = table.column("sha256").to_pylist() if len(columns) > 1 else [""] * len(photos)

    def runs(layer: str) -> Iterator[npt.NDArray[np.float32]]:
        step = max(_RUN_BYTES // max(4 * int(np.prod(layers[layer])), 1), 1)
        with parquet.ParquetFile(path) as again:
            for batch in again.iter_batches(batch_size=step, columns=[layer]):
                yield batch.column(0).to_numpy_ndarray().astype(np.float32, copy=False)

    return ResultFile(path=path, photos=photos, sha256=sha256, layers=layers, job=read_job(path) or {}, _runs=runs)
