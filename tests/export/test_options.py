"""What is refused before anything expensive is imported or built."""

from pathlib import Path

import pytest
from featserve_export import InvalidOptionError, WeightsError
from featserve_export.options import ExportOptions


@pytest.mark.parametrize(
    ("option", "error", "text"),
    [
        ("labels", InvalidOptionError, "--labels .*none cannot be read: .*No such file"),
        (
            "weights",
            WeightsError,
            "expected --weights imagenet, random or a file, received '.*none', which is not there",
        ),
        ("calibrate", InvalidOptionError, "--calibrate, .*none has none; give about 64 photos"),
    ],
)
def test_files_that_are_not_there(tmp_path: Path, option: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ExportOptions("mobilenet", **{option: str(tmp_path / "none")})


def test_photos_of_a_directory_or_glob(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match="has none"):
        ExportOptions("mobilenet", calibrate=tmp_path)
    (tmp_path / "a.jpg").touch()
    assert ExportOptions("mobilenet", calibrate=tmp_path).calibrate == tmp_path
    assert ExportOptions("mobilenet", calibrate=f"{tmp_path}/*.jpg").calibrate == f"{tmp_path}/*.jpg"
