"""What is refused before anything expensive is imported or built."""

from pathlib import Path

import pytest
from featserve_export import InvalidOptionError, WeightsError
from featserve_export.cli import main
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
        ExportOptions("mobilenet", **{option: str(tmp_path / "none")}).check_files()


def test_photos_of_a_directory_or_glob(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match="has none"):
        ExportOptions("mobilenet", calibrate=tmp_path).check_files()
    (tmp_path / "a.jpg").touch()
    for source in (tmp_path, f"{tmp_path}/*.jpg"):
        ExportOptions("mobilenet", calibrate=source).check_files()


def test_the_command_refuses_them_before_it_imports_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("featserve_export.cli.command.import_tensorflow", lambda: pytest.fail("it was imported"))
    command = ["mobilenet", "--model-root", str(tmp_path), "--labels", str(tmp_path / "none")]
    assert main(command) == 2
    assert "none cannot be read" in capsys.readouterr().err
