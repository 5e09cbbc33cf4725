"""show and similar: pictures of features."""

import errno
import os
import pathlib

import numpy as np
import pytest
from featserve_client import extras as extras
from featserve_client.analysis.pictures import draw_maps
from PIL import Image

from ...command import featserve
from ...fake_server import FakeServer, jpeg


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    for seed in range(6):
        (tmp_path / f"p{seed}.jpg").write_bytes(jpeg(seed))
    (tmp_path / "odd $name.jpg").write_bytes(jpeg(0))
    return tmp_path


@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_show(server: FakeServer, photos: pathlib.Path, kind: str) -> None:
    output = photos / f"maps{kind}"
    assert featserve(server, "show", photos / "p1.jpg", "--output", output) == 0
    assert np.asarray(Image.open(output)).std() > 10


def test_show_as_a_page(server: FakeServer, photos: pathlib.Path) -> None:
    output = photos / "maps.html"
    assert featserve(server, "show", photos / "p1.jpg", "--output", output) == 0
    assert output.read_text().count("<img") == 1


def test_the_scale_of_a_vector_is_neither_on_the_photo_nor_cut() -> None:
    figure = draw_maps(np.zeros((12, 16, 3), np.uint8), {"late": np.linspace(-1, 99_000, 40, dtype=np.float32)}, "t")
    figure.canvas.draw()
    photo, bars = figure.axes
    room = bars.get_tightbbox()
    assert photo.get_window_extent().x1 <= room.x0 and room.x1 <= figure.bbox.x1 and room.y0 >= figure.bbox.y0


def test_constant_maps_are_named(server: FakeServer, photos: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = draw_maps(np.zeros((12, 16, 3), np.uint8), {"early": np.full((2, 2, 3), 0.5, np.float32)}, "t")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "channel 0 (constant 0.5)" in titles
    server.features = lambda data: {"early": np.zeros((2, 2, 3), np.float32), "late": np.arange(4, dtype=np.float32)}
    assert featserve(server, "show", photos / "p1.jpg", "--output", photos / "maps.png") == 0
    assert capsys.readouterr().err == "featserve: all values of early are 0: nothing is to be seen\n"


@pytest.mark.parametrize("kind", [".png", ".html"])
@pytest.mark.parametrize("parquet", [False, True])
def test_similar(
    server: FakeServer, photos: pathlib.Path, capsys: pytest.CaptureFixture[str], kind: str, parquet: bool
) -> None:
    among = photos
    if parquet:
        among = photos / "all.parquet"
        assert featserve(server, "extract", photos, "--output", among) == 0
    output = photos / f"similar{kind}"
    capsys.readouterr()
    assert featserve(server, "similar", photos / "p0.jpg", among, "-k", 3, "--output", output) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"1.0000  {photos}/odd $name.jpg" and len(lines) == 4
    if kind == ".html":
        assert output.read_text().count("<img") == 4
    else:
        assert np.asarray(Image.open(output)).std() > 10


def test_names_are_drawn_as_they_are(
    server: FakeServer, photos: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # To matplotlib a formula that is none; a line break; no UTF-8.
    for name in (r"a$\frac$b.jpg", "new\nline.jpg", os.fsdecode(b"bad \xff.jpg")):
        (photos / name).write_bytes(jpeg(1))
        assert featserve(server, "show", photos / name, "--output", photos / "maps.png") == 0
        for kind in (".png", ".html"):
            with open(1, "w", encoding="utf-8", closefd=False) as strict, monkeypatch.context() as patch:
                patch.setattr("sys.stdout", strict)
                assert featserve(server, "similar", photos / name, photos, "--output", photos / f"similar{kind}") == 0
    assert "cannot" not in capfd.readouterr().err


def test_a_query_that_is_no_image_is_told_before_the_others_are_asked_for(
    server: FakeServer, photos: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bad.jpg").write_bytes(b"no image")
    assert featserve(server, "similar", photos / "bad.jpg", photos, "--output", photos / "similar.html") == 2
    assert capsys.readouterr().err.startswith(f"featserve: {photos}/bad.jpg: not an image")
    assert {request.model_spec.signature_name for request in server.predicts} == {"manifest"}
    assert not (photos / "similar.html").exists()


@pytest.mark.parametrize("name", ["out.png", "out.html", "out.usearch"])
def test_a_full_disk_leaves_the_file_that_was_there(
    server: FakeServer,
    photos: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    output = photos / "out" / name
    output.parent.mkdir()
    output.write_bytes(b"earlier")
    index = name.endswith("usearch")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr("os.replace", full)
    arguments = ["index", photos, "--overwrite"] if index else ["show", photos / "p1.jpg"]
    assert featserve(server, *map(str, arguments), "--output", output) == 2
    assert f"{output} cannot be written: [Errno 28] No space left" in capsys.readouterr().err
    assert os.listdir(output.parent) == [name] and output.read_bytes() == b"earlier"
