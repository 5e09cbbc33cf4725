"""featserve index, and similar in what it wrote."""

import pathlib

import numpy as np
import pytest

from ...command import featserve
from ...fake_server import MANIFEST, FakeServer, jpeg


@pytest.fixture
def index(server: FakeServer, tmp_path: pathlib.Path) -> pathlib.Path:
    pytest.importorskip("usearch")
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(6):
        (photos / f"p{seed}.jpg").write_bytes(jpeg(seed))
    (photos / "copy of 0.jpg").write_bytes(jpeg(0))
    output = tmp_path / "photos.usearch"
    assert featserve(server, "index", photos, "--layer", "early", "--output", output) == 0
    return output


def test_what_is_indexed_is_found(server: FakeServer, index: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, picture = index.parent / "photos", index.parent / "similar.html"
    capsys.readouterr()
    command = ("similar", photos / "p0.jpg", "-k", 3, "--output", picture)
    assert featserve(server, *command, "--index", index) == 0
    found = capsys.readouterr().out
    assert found.splitlines()[0] == f"1.0000  {photos}/copy of 0.jpg" and len(found.splitlines()) == 4
    assert featserve(server, *command, photos, "--layers", "early") == 0
    assert capsys.readouterr().out == found  # as without an index
    assert featserve(server, *command, photos, "--index", index) == 2
    assert "either photos to search among, or --index" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        featserve(server, *command)
    assert "required: DIR_OR_PARQUET" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weights": {"sha256": "1" * 64}}, "weights_sha256: '0000"),
        ({"precision": "int8"}, "precision: 'float32' there, 'int8' now"),
        (
            {"preprocessing": MANIFEST["preprocessing"] | {"interpolation": "nearest"}},
            "interpolation: 'bilinear' there, 'nearest' now;",
        ),
    ],
)
def test_an_index_of_other_vectors_is_refused(
    server: FakeServer, index: pathlib.Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], text: str
) -> None:
    server.manifest = MANIFEST | change
    query = index.parent / "photos" / "p0.jpg"
    assert featserve(server, "similar", query, "--index", index, "--output", index.parent / "similar.html") == 2
    err = capsys.readouterr().err
    assert "is of other vectors than the server gives" in err and text in err


def test_what_is_no_index_is_refused(
    server: FakeServer, index: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = index.parent / "photos"
    assert featserve(server, "index", photos, "--output", index) == 2
    assert "exists: --overwrite replaces it" in capsys.readouterr().err
    assert featserve(server, "index", photos, "--output", index.parent / "photos.bin") == 2
    assert "expected .usearch" in capsys.readouterr().err
    search = ("similar", photos / "p0.jpg", "--output", index.parent / "similar.html", "--index")
    kept = index.read_bytes()
    index.write_bytes(b"junk")
    assert featserve(server, *search, index) == 2
    index.write_bytes(kept)
    beside = index.with_name(index.name + ".json")
    beside.write_text(beside.read_text().replace('"paths": [', '"paths": ["one more", '))
    assert featserve(server, *search, index) == featserve(server, *search, index.parent / "none.usearch") == 2
    err = capsys.readouterr().err
    assert "no index of featserve index" in err and "do not belong together" in err


def test_nothing_close_is_said(server: FakeServer, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    for seed in range(2):
        (tmp_path / "a" / f"{seed}.jpg").write_bytes(jpeg(seed))
    query = tmp_path / "q.jpg"
    query.write_bytes(jpeg(7))
    other = {True: np.array([1, 0, 0, 0], np.float32), False: np.array([0.18, 1, 0, 0], np.float32)}
    server.features = lambda data: {"early": np.zeros((2, 2, 3)), "late": other[data == jpeg(7)]}
    picture = tmp_path / "similar.html"
    assert featserve(server, "similar", query, tmp_path / "a", "--output", picture) == 0
    assert "nothing is close: the best cosine is 0.18, below --threshold 0.5" in capsys.readouterr().err
    assert "Nothing close to q.jpg" in picture.read_text()
    lower = ("--threshold", 0.15, "--output", picture)
    assert featserve(server, "similar", query, tmp_path / "a", *lower) == 0
    assert "nothing is close" not in capsys.readouterr().err and "Most like q.jpg" in picture.read_text()
    assert featserve(server, "similar", query, tmp_path / "a", "--threshold", 2) == 2
    assert "--threshold must be a cosine from -1 to 1, not 2" in capsys.readouterr().err
