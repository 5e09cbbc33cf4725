"""Every backbone of the table, exported and proven; prints a row of a markdown table for each."""

import time

import pytest
from featserve_export import export_backbone, list_backbones

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]


@pytest.mark.parametrize("backbone", list_backbones(), ids=lambda backbone: backbone.name)
def test_a_backbone_is_exported(backbone, tmp_path, capsys):
    start = time.monotonic()
    report = export_backbone(backbone.name, weights="random", image_size=(96, 96), model_root=tmp_path)
    seconds = time.monotonic() - start
    ((layer, closeness),) = report.closeness.items()
    assert layer == backbone.output
    assert closeness.cosine > 0.99999
    with capsys.disabled():
        print(
            f"\n| {backbone.name} | {layer} | {'×'.join(map(str, backbone.output_shape))} | {closeness.cosine:.7f} "
            f"| {closeness.max_relative_difference:.1e} | {seconds:.0f} |"
        )
