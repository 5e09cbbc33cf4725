"""show and similar: pictures of features."""

import os
import pathlib

import numpy as np
import pytest
from featserve_client import extras as extras
from PIL import Image

from ..command import featserve
from ..fake_server import FakeServer, jpeg


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
