import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import skimage

HERE = Path(__file__).parent
PHOTOS = Path(skimage.__file__).parent / "data"


def test_help_blocks_are_what_the_commands_print() -> None:
    check = subprocess.run([sys.executable, HERE / "readme.py", "--check"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr


def test_the_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featserve_export import ExportOptions, export_backbone
    from featserve_serving import create_server

    (code,) = re.findall(r"```python\n(from featserve_client import FeatureClient\n.*?)```", _quickstart(), re.DOTALL)
    shutil.copy(PHOTOS / "rocket.jpg", tmp_path / "cat.jpg")
    shutil.copy(PHOTOS / "coffee.png", tmp_path / "dog.png")
    monkeypatch.chdir(tmp_path)
    export_backbone(ExportOptions("efficientnet_lite0", model_root=tmp_path / "models"))
    with create_server(model_root=tmp_path / "models", address="127.0.0.1:0") as server:
        namespace: dict[str, object] = {}
        exec(code.replace("localhost:8500", f"127.0.0.1:{server.port}"), namespace)  # noqa: S102
    features = namespace["features"]
    assert isinstance(features, dict)
    assert features["top_activation"].shape == (2, 7, 7, 1280)


def test_no_knob_of_the_makefile_is_undocumented() -> None:
    text = subprocess.run(["make", "help"], cwd=HERE.parent, capture_output=True, text=True, check=True).stdout
    makefile = (HERE.parent / "Makefile").read_text(encoding="utf-8")
    knobs = set(re.findall(r"^([A-Z_]+) \?=", makefile, re.MULTILINE)) - {"PYTHON"}
    assert all(re.search(rf"^  {knob}\b", text, re.MULTILINE) for knob in knobs)


def _quickstart() -> str:
    readme = (HERE.parent / "README.md").read_text(encoding="utf-8")
    return readme.split("## Quickstart", 1)[1].split("\n## ", 1)[0]
