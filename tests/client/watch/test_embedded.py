"""Watching the embedded server with exported models."""

from __future__ import annotations

import pathlib
import shutil
import warnings
from collections.abc import Callable

import pytest

pytest.importorskip("tensorflow")
from featserve_client.cli.main import main
from featserve_export import ExportOptions, export_backbone
from featserve_serving import create_server

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> list[pathlib.Path]:
    """Model roots with the same name, version and layers: the second was trained otherwise."""
    import keras

    folder = tmp_path_factory.mktemp("twins")
    roots = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        images = keras.Input((32, 32, 3))
        x = keras.layers.Conv2D(32, 3, activation="relu", name="early")(images)
        model = keras.Model(images, keras.layers.Conv2D(16, 3, strides=2, name="late")(x))
        model.save(folder / f"{seed}.keras")
        roots.append(folder / f"root{seed}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            export_backbone(
                ExportOptions(
                    str(folder / f"{seed}.keras"),
                    preprocess="none",
                    layers=["early", "late"],
                    model_name="twin",
                    model_root=roots[-1],
                )
            )
    return roots


def test_a_swapped_model_is_caught(
    twins: list[pathlib.Path],
    tmp_path: pathlib.Path,
    free_port: Callable[[], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = f"127.0.0.1:{free_port()}"
    served = tmp_path / "served"
    watch = ["watch", "--once", "--server", address, "--model", "twin"]
    remember, export = ["--remember", str(tmp_path / "seen.json")], ["--export", str(twins[0] / "twin" / "1")]
    shutil.copytree(twins[0], served)
    with create_server(model_root=served, address=address):
        assert main([*watch, *remember]) == main([*watch, *export]) == 0
        assert "cosine 1.0000000" in capsys.readouterr().out
    shutil.rmtree(served)
    shutil.copytree(twins[1], served)
    with create_server(model_root=served, address=address):
        assert main(watch) == 0  # by itself it is a sound model
        capsys.readouterr()
        for reference in (remember, export):
            assert main([*watch, *reference]) == 1
            out = capsys.readouterr().out
            assert "this is another model of the same name and version: weights " in out
            assert "golden picture " in out and "has cosine" in out
