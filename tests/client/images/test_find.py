"""What a folder is searched for, and what is said of the rest."""

import errno
import importlib.util
import os
import pathlib

import pytest
from featserve_client import InvalidImageError
from featserve_client.images import inputs
from featserve_client.images.find import describe, find_images


def test_what_is_passed_over_is_counted_by_its_reason(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("a.jpg", "._a.jpg", "b.tga", "c.tga", "noending", "d.HEIC", "__MACOSX/e.jpg", "deep/f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    found = find_images([str(tmp_path)])
    assert found.paths == [str(tmp_path / "a.jpg"), str(tmp_path / "deep" / "f.png")]
    assert found.passed_over == {
        ".tga": 2,
        "._ files of macOS": 1,
        "without an ending": 1,
        ".heic (needs pillow-heif)": 1,
        "__MACOSX folders": 1,
        "links to folders": 1,
    }
    assert describe(found.passed_over).startswith("2 .tga, ")
    (tmp_path / "deep" / "f.png").rename(tmp_path / "deep" / "f.jp2")
    with pytest.raises(InvalidImageError, match=r"has no image in it; passed over: 1 \.jp2$"):
        find_images([str(tmp_path / "deep")])


def test_heic_by_pillow_heif(tmp_path: pathlib.Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    from PIL import Image

    pillow_heif.from_pillow(Image.new("RGB", (64, 48), "red")).save(tmp_path / "a.heic")
    assert find_images([str(tmp_path)]).paths == [str(tmp_path / "a.heic")]
    (image,) = inputs.load("a", tmp_path / "a.heic", max_bytes=10**6)
    assert image.data.shape == (48, 64, 3)  # type: ignore[union-attr]


def test_a_folder_that_cannot_be_read_is_counted(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sealed").mkdir()
    (tmp_path / "a.jpg").touch()
    scan = os.scandir

    def sealed(folder: str) -> object:
        if str(folder).endswith("sealed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        return scan(folder)

    monkeypatch.setattr("os.scandir", sealed)  # for root no folder is sealed
    found = find_images([str(tmp_path)])
    assert found.paths == [f"{tmp_path}/a.jpg"]
    assert describe(found.passed_over) == "1 folders that cannot be read (Permission denied)"
    with pytest.raises(InvalidImageError, match="has no image in it; passed over: 1 folders that cannot be read"):
        find_images([str(tmp_path / "sealed")])


def test_an_empty_argument_is_told_as_such() -> None:
    with pytest.raises(InvalidImageError, match="'': names no file: an argument is empty"):
        find_images([""])
