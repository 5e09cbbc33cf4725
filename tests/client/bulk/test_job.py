"""featserve extract: formats, failures, and going on after a kill."""

import errno
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet
import pytest
import zarr

from ..command import featserve
from ..fake_server import FakeServer, features, jpeg

FORMATS = [".npz", ".npy", ".parquet", ".h5", ".zarr"]


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for seed in range(20):
        (folder / f"p{seed:02d}.jpg").write_bytes(jpeg(seed))
    (folder / "deep" / "ünï\ncode.JPEG").write_bytes(jpeg(99))
    (folder / "p07.jpg").write_bytes(b"no image")
    (folder / "p08.jpg").write_bytes(jpeg(8) + b"broken")
    (folder / "p09.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not asked for")
    os.mkfifo(folder / "p10.png")
    return folder


def read(path: pathlib.Path, layer: str) -> tuple[list[str], np.ndarray, dict[str, list[object]]]:
    """The file names, the activations and the other columns of a result file of any kind."""
    names = ("path", "width", "height", "sha256")
    if path.suffix == ".npz":
        with np.load(path) as archive:
            columns, data = {name: archive[name].tolist() for name in names}, archive[layer]
    elif path.suffix == ".npy":
        rows = [json.loads(line) for line in path.with_name(path.name + ".rows.jsonl").read_text().splitlines()[1:]]
        columns, data = {name: [row[name] for row in rows] for name in names}, np.load(path)
    elif path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        columns = {name: table[name].to_pylist() for name in names}
        data = table[layer].combine_chunks().to_numpy_ndarray()
    elif path.suffix == ".h5":
        with h5py.File(path) as file:
            columns = {name: file[name][:].tolist() for name in names}
            columns |= {name: [value.decode() for value in columns[name]] for name in ("path", "sha256")}
            data = file[layer][:]
    else:
        group = zarr.open_group(str(path), mode="r")
        columns, data = {name: group[name][:].tolist() for name in names}, group[layer][:]
    return columns["path"], data, columns


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats(server: FakeServer, photos: pathlib.Path, tmp_path: pathlib.Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    assert featserve(server, "extract", photos, "--layers", "early", "--output", output) == 1
    paths, data, columns = read(output, "early")
    good = sorted(p for p in photos.rglob("*.[jJ]*") if p.name not in ("p07.jpg", "p08.jpg"))
    assert paths == sorted(map(str, good), key=os.fsencode)
    np.testing.assert_array_equal(data, np.stack([features(pathlib.Path(p).read_bytes())["early"] for p in paths]))
    assert columns["width"] == [16] * 19 and columns["height"] == [12] * 19
    assert all(len(str(value)) == 64 for value in columns["sha256"])
    failures = [json.loads(line) for line in (tmp_path / f"out{suffix}.failures.jsonl").read_text().splitlines()]
    assert [(pathlib.Path(f["path"]).name, f["kind"]) for f in failures] == [
        ("p07.jpg", "InvalidImageError"),
        ("p08.jpg", "InvalidRequest"),
        ("p09.png", "InvalidImageError"),
        ("p10.png", "InvalidImageError"),
    ]
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".*tmp*"))
    # Done is done; but not for other layers.
    asked = len(server.predicts)
    assert featserve(server, "extract", photos, "--layers", "early", "--output", output, "--resume") == 1
    assert len(server.predicts) == asked + 1  # the manifest
    assert featserve(server, "extract", photos, "--layers", "late", "--output", output, "--resume") == 2


def test_equal_results_are_equal_bytes(server: FakeServer, photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for name, concurrency in (("a.npz", 1), ("b.npz", 8)):
        featserve(server, "extract", photos, "--output", tmp_path / name, "--concurrency", concurrency)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_output_is_replaced_only_when_asked(
    server: FakeServer, photos: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "out.npz"
    output.write_bytes(b"old")
    assert featserve(server, "extract", photos / "p00.jpg", "--output", output, "--overwrite") == 0
    assert len(read(output, "late")[0]) == 1


def test_lists_and_patterns(server: FakeServer, photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    listing = tmp_path / "list"
    listing.write_bytes(f"{photos}/p00.jpg\0{photos}/deep/ünï\ncode.JPEG\0".encode())
    output = tmp_path / "out.npz"
    assert featserve(server, "extract", f"{photos}/p1*.jpg", f"@{listing}", "--output", output) == 0
    assert len(read(output, "late")[0]) == 12


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["/no/such"], "/no/such: no such file or directory"),
        (["EMPTY"], "has no image in it"),
        (["PHOTOS", "--output", "out.csv"], "unknown kind of output"),
        (["PHOTOS", "--output", "folder.npz"], "folder.npz cannot be written: it is a directory"),
        (["PHOTOS", "--output", "/proc/nowhere/out.npz"], "/proc/nowhere"),
        (["PHOTOS", "--output", "out.npy"], ".npy holds one layer"),
        (["PHOTOS", "--layers", "nope"], "no layer 'nope'; it has early, late"),
        (["PHOTOS", "--model", "nope"], "model 'nope'"),
        (["PHOTOS", "--server", "localhost:1"], "no server at localhost:1"),
        (["PHOTOS", "--server", "localhost"], "not HOST:PORT"),
        (["PHOTOS", "--timeout", "0"], "timeout_s"),
        (["BAD"], "failures.jsonl; the first: {BAD}: not an image in a known format"),
        (["PHOTOS", "--output", "there.npz"], "there.npz exists: --overwrite replaces it"),
    ],
)
def test_what_cannot_be_done(
    server: FakeServer,
    photos: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "there.npz").write_bytes(b"kept")
    places = {"PHOTOS": str(photos), "EMPTY": str(tmp_path / "empty"), "BAD": str(photos / "p07.jpg")}
    assert featserve(server, "extract", *[places.get(argument, argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert text.replace("{BAD}", places["BAD"]) in err and "Traceback" not in err and not out
    assert (tmp_path / "there.npz").read_bytes() == b"kept"


def broken_off(server: FakeServer, photos: pathlib.Path, output: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves a .partial directory with some parts in it."""
    with monkeypatch.context() as patch:
        patch.setattr("featserve_client.bulk.job._PART_IMAGES", 4)
        patch.setattr("featserve_client.bulk.job._join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert featserve(server, "extract", photos, "--output", output) == 130
    for part in sorted(output.with_name(output.name + ".partial").glob("part-*"))[2:]:
        part.unlink()


def test_resume_asks_only_for_what_is_missing(
    server: FakeServer, photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, whole = tmp_path / "out.npz", tmp_path / "whole.npz"
    monkeypatch.setattr("featserve_client.bulk.job._PART_IMAGES", 4)
    featserve(server, "extract", photos, "--output", whole)
    broken_off(server, photos, output, monkeypatch)
    server.predicts.clear()
    assert featserve(server, "extract", photos, "--output", output) == 2  # not without --resume
    assert featserve(server, "extract", photos, "--output", output, "--resume") == 1
    sent = {data for r in server.predicts if "image_bytes" in r.inputs for data in r.inputs["image_bytes"].string_val}
    assert not sent & {jpeg(seed) for seed in range(7)} and jpeg(10) in sent and jpeg(19) in sent
    assert output.read_bytes() == whole.read_bytes()


def test_what_is_left_of_a_removal_is_not_gone_on_with(
    server: FakeServer, photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, whole = tmp_path / "out.npz", tmp_path / "whole.npz"
    monkeypatch.setattr("featserve_client.bulk.job._PART_IMAGES", 4)
    featserve(server, "extract", photos, "--output", whole, "--layers", "late")
    broken_off(server, photos, output, monkeypatch)  # of all layers
    folder = tmp_path / "out.npz.partial"
    (folder / "job.json").unlink()
    assert featserve(server, "extract", photos, "--output", output, "--layers", "late") == 1
    assert output.read_bytes() == whole.read_bytes() and not folder.exists()
    # The same, where the output was already there.
    folder.mkdir()
    (folder / "part-00000000.npz").write_bytes(b"of another time")
    server.predicts.clear()
    assert featserve(server, "extract", photos, "--output", output, "--layers", "late", "--resume") == 1
    assert output.read_bytes() == whole.read_bytes() and not folder.exists()
    assert not [request for request in server.predicts if request.inputs]


def test_a_run_that_has_not_begun_is_in_nobodys_way(
    server: FakeServer, photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.npz"
    assert featserve(server, "extract", photos, "--output", output, "--concurrency", 0) == 2
    assert not list(tmp_path.glob("*.partial"))
    with monkeypatch.context() as patch:
        patch.setattr(
            "featserve_client.bulk.parts.PartsFolder._write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        assert featserve(server, "extract", photos, "--output", output) == 130
    assert featserve(server, "extract", photos, "--output", output, "--layers", "late") == 1


@pytest.mark.parametrize("suffix", FORMATS)
def test_broken_off_before_any_step_it_goes_on(
    server: FakeServer, photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    class Killed(BaseException):
        pass

    left = 0

    def step(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            real(*arguments, **options)

        return call

    monkeypatch.setattr("featserve_client.bulk.job._PART_IMAGES", 8)
    command = [photos, "--layers", "late", "--quiet"]
    (tmp_path / "whole").mkdir()
    featserve(server, "extract", *command, "--output", tmp_path / "whole" / f"out{suffix}")
    for name in ("replace", "unlink", "rmdir", "fsync"):
        monkeypatch.setattr(os, name, step(getattr(os, name)))
    wanted = read(tmp_path / "whole" / f"out{suffix}", "late")
    for number in itertools.count(1, 4 if suffix == ".zarr" else 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        output, left = folder / f"out{suffix}", number
        try:
            featserve(server, "extract", *command, "--output", output)
        except Killed:
            assert featserve(server, "extract", *command, "--output", output, "--resume") == 1
        paths, data, columns = read(output, "late")
        assert (paths, columns) == (wanted[0], wanted[2])
        np.testing.assert_array_equal(data, wanted[1])
        assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}
        if left > 0:
            assert number > 15  # as many steps as there are, at least
            return


@pytest.mark.parametrize("change", ["version", "weights", "layers", "images"])
def test_resume_refuses_another_extraction_and_says_what_differs(
    server: FakeServer,
    photos: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: str,
) -> None:
    output = tmp_path / "out.npz"
    monkeypatch.setattr("featserve_client.bulk.job._PART_IMAGES", 4)
    broken_off(server, photos, output, monkeypatch)
    extra: list[str] = []
    if change == "version":
        server.version = 2
    elif change == "weights":
        server.manifest["weights"] = {"sha256": "1" * 64}
    elif change == "layers":
        extra = ["--layers", "late"]
    else:
        (photos / "new.jpg").write_bytes(jpeg(1))
    assert featserve(server, "extract", photos, "--output", output, "--resume", *extra) == 2
    wanted = {
        "version": "version: 1 there, 2 now",
        "weights": f"weights_sha256: '{'0' * 64}' there, '{'1' * 64}' now",
        "layers": "layers: ['early', 'late'] there, ['late'] now",
        "images": "images: 23 there, 24 now; the names of the images are others",
    }[change]
    assert wanted in capsys.readouterr().err


def test_thousands_of_tiny_files(server: FakeServer, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    kinds = [jpeg(seed, (2, 2)) for seed in range(7)]
    names = [f"{number:04d}.jpg" for number in range(4996)]
    names += ["new\nline.jpg", "snö ☃.jpg", "quote'\".jpg", os.fsdecode(b"not utf-8 \xff.jpg")]
    for number, name in enumerate(names):
        (folder / name).write_bytes(kinds[number % 7])
    output = tmp_path / "out.npz"
    assert featserve(server, "extract", folder, "--quiet", "--layers", "late", "--output", output) == 0
    paths, data, _ = read(output, "late")
    assert len(data) == 5000
    assert {pathlib.Path(path).name for path in paths} == {os.fsdecode(os.fsencode(name)) for name in names}
    for row in (0, 6, 4000, 4999):
        np.testing.assert_array_equal(data[row], features(pathlib.Path(paths[row]).read_bytes())["late"])


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_a_full_disk_loses_nothing(server: FakeServer, tmp_path: pathlib.Path, suffix: str) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(600):
        (tmp_path / "photos" / f"{number:03d}.jpg").write_bytes(jpeg(number % 7, (2, 2)))
    output = tmp_path / f"out{suffix}"
    # Room for every part, not for all of them in one.
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000)); " + (
        "from featserve_client.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", limited, "extract", "--server", server.target, "--model", "toy", "--quiet"]
    command += [str(tmp_path / "photos"), "--layers", "early", "--output", str(output)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (ended.returncode, output.exists()) == (2, False)
    assert f"{output} cannot be written: " in ended.stderr and "Traceback" not in ended.stderr
    asked = len(server.predicts)
    assert featserve(server, "extract", tmp_path / "photos", "--layers", "early", "--output", output, "--resume") == 0
    assert len(server.predicts) == asked + 1 and len(read(output, "early")[0]) == 600


def test_a_disk_that_is_full_from_the_start_is_left_as_it_was(
    server: FakeServer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    assert featserve(server, "extract", tmp_path / "a.jpg", "--output", tmp_path / "out" / "a.npz") == 2
    assert "a.npz.partial cannot be written: [Errno 28] No space left on device" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out") == []


def test_one_large_file_is_one_error_and_is_not_read(
    server: FakeServer, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(jpeg(0))
    for name, head in (("zeros.jpg", b""), ("looks like one.jpg", jpeg(1)), ("png.png", b"\x89PNG\r\n\x1a\n")):
        with open(folder / name, "wb") as file:
            file.write(head)
            file.truncate(200_000_000)
    output = tmp_path / "out.npz"
    tracemalloc.start()
    try:
        assert (
            featserve(server, "extract", folder, "--quiet", "--output", output, "--max-message-bytes", 64 * 2**20) == 1
        )
        assert tracemalloc.get_traced_memory()[1] < 100_000_000  # not even one of them
    finally:
        tracemalloc.stop()
    assert [pathlib.Path(path).name for path in read(output, "late")[0]] == ["good.jpg"]
    failures = [json.loads(line) for line in (tmp_path / "out.npz.failures.jsonl").read_text().splitlines()]
    assert [(pathlib.Path(failure["path"]).name, failure["kind"]) for failure in failures] == [
        ("looks like one.jpg", "InvalidImageError"),
        ("png.png", "InvalidImageError"),
        ("zeros.jpg", "InvalidImageError"),
    ]
    assert all("has 200000000 bytes, more than max_message_bytes=67108864" in failure["error"] for failure in failures)
    assert "Traceback" not in capsys.readouterr().err


def test_a_large_file_of_garbage_within_the_limit(server: FakeServer, tmp_path: pathlib.Path) -> None:
    with open(tmp_path / "zeros.jpg", "wb") as file:
        file.truncate(200_000_000)
    (tmp_path / "good.jpg").write_bytes(jpeg(0))
    for decode in ("server", "client"):
        output = tmp_path / f"{decode}.npz"
        assert (
            featserve(
                server, "extract", tmp_path / "zeros.jpg", tmp_path / "good.jpg", "--output", output, "--decode", decode
            )
            == 1
        )
        (failure,) = [json.loads(line) for line in (tmp_path / f"{decode}.npz.failures.jsonl").read_text().splitlines()]
        assert failure["kind"] == "InvalidImageError" and "not an image in a known format" in failure["error"]
