"""Every backbone of the table, exported and proven; prints a row of a markdown table for each."""

import json
import subprocess
import sys
import time

import pytest
from featserve_export import list_backbones

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("backbone", list_backbones(), ids=lambda backbone: backbone.name)
def test_a_backbone_is_exported(backbone, tmp_path, capsys):
    start = time.monotonic()
    # A process of its own gives its memory back.
    command = f"{sys.executable} -m featserve_export {backbone.name} --weights random --image-size 96 --version 1"
    done = subprocess.run([*command.split(), "--model-root", tmp_path], capture_output=True, text=True)
    seconds = time.monotonic() - start
    assert done.returncode == 0, done.stderr[-2000:]
    manifest = json.loads((tmp_path / backbone.name / "1" / "assets.extra" / "manifest.json").read_text())
    ((layer, closeness),) = manifest["closeness"].items()
    assert layer == backbone.output
    assert closeness["cosine"] > 0.99999
    with capsys.disabled():
        print(
            f"\n| {backbone.name} | {layer} | {'×'.join(map(str, backbone.output_shape))} | {closeness['cosine']:.7f} "
            f"| {closeness['max_relative_difference']:.1e} | {seconds:.0f} |"
        )
