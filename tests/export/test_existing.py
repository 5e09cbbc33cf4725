"""A version that is there and may stay: `--if-missing` compares it with what is asked for, by its manifest."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from featserve_export import ExportOptions, InvalidOptionError
from featserve_export.cli import main
from featserve_export.cli.existing import check_same
from featserve_export.manifest import read_manifest, write_manifest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def asked(exported, tmp_path):
    """The options of an export that is there."""
    directory = tmp_path / "mobilenet" / "1"
    shutil.copytree(exported.path, directory)

    def options(**changed):
        values = {
            "alpha": 0.25,
            "weights": "random",
            "image_size": (64, 64),
            "layers": ["conv_pw_1_relu", "conv_pw_13_relu"],
            "model_root": tmp_path,
            "version": 1,
            **changed,
        }
        return ExportOptions(values.pop("backbone", "mobilenet"), **values)

    return options


@pytest.mark.long
def test_the_same_is_found_and_a_missing_one_is_missing(asked, tmp_path):
    assert check_same(asked()) == tmp_path / "mobilenet" / "1"
    assert check_same(asked(version=2)) is None
    assert check_same(asked(backbone="MobileNet", layers=("conv_pw_1_relu", "conv_pw_13_relu"))) is not None


@pytest.mark.long
@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"pooling": "avg"}, "pooling is none, asked for avg"),
        ({"layers": None}, "layers is conv_pw_1_relu,conv_pw_13_relu, asked for conv_pw_13_relu"),
        ({"layers": ["nosuch"]}, "asked for nosuch"),
        ({"weights": "imagenet"}, "weights is random, asked for imagenet"),
        ({"weights": "/folder/own.weights.h5"}, "weights is random, asked for own.weights.h5"),
        ({"alpha": None}, "alpha is 0.25, asked for 1.0"),
        ({"image_size": None}, "image size is 64,64, asked for 224,224"),
        ({"interpolation": "bicubic"}, "interpolation is nearest, asked for bicubic"),
        ({"precision": "bfloat16"}, "precision is float32, asked for bfloat16"),
        ({"precision": "auto"}, "precision is float32, asked for auto"),
        ({"device": "any"}, "device is cpu, asked for any"),
        ({"convolutions": "winograd"}, "convolutions is direct, asked for winograd"),
        ({"crop_to_aspect_ratio": True}, "crop to aspect ratio is False, asked for True"),
        ({"backbone": "mobilenet_v2", "model_name": "mobilenet"}, "backbone is mobilenet, asked for mobilenet_v2"),
    ],
)
def test_another_export_is_named_with_the_way_out(asked, changed, text):
    with pytest.raises(InvalidOptionError) as refused:
        check_same(asked(**changed))
    assert text in str(refused.value)
    assert "--version 2 (make: VERSION=2)" in str(refused.value)


@pytest.mark.long
def test_what_auto_chose_is_what_auto_was_asked_for(asked, tmp_path):
    directory = tmp_path / "mobilenet" / "1"
    write_manifest(directory, {**read_manifest(directory), "precision_measured": {"float32": {}}})
    assert check_same(asked(precision="auto")) == directory
    assert check_same(asked(precision="float32")) == directory


@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_a_version_without_a_manifest_cannot_be_compared(tmp_path, content):
    directory = tmp_path / "vgg16" / "3" / "assets.extra"
    directory.mkdir(parents=True)
    if content is not None:
        (directory / "manifest.json").write_text(content)
    with pytest.raises(InvalidOptionError, match=r"cannot be compared .* --version 4 "):
        check_same(ExportOptions("vgg16", model_root=tmp_path, version=3))


@pytest.mark.long
def test_make_export_says_what_differs_and_fails(exported, tmp_path):
    """The knobs of the Makefile, with the programs of this interpreter."""
    shutil.copytree(exported.path, tmp_path / "mobilenet" / "1")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / ".installed").touch()
    program = Path(sys.executable).with_name("featserve-export")
    (tmp_path / "venv" / "bin" / "featserve-export").symlink_to(program)

    def make(*knobs):
        return subprocess.run(
            [
                "make",
                "export",
                f"VENV={tmp_path / 'venv'}",
                f"MODEL_ROOT={tmp_path}",
                "BACKBONE=mobilenet",
                "WEIGHTS=random",
                "LAYERS=conv_pw_1_relu,conv_pw_13_relu",
                *knobs,
            ],
            cwd=ROOT,
            env={**os.environ, "MAKEFLAGS": ""},
            capture_output=True,
            text=True,
        )

    batching = json.dumps(exported.manifest["batching"])
    flags = "EXPORT_FLAGS=--alpha 0.25 --image-size 64"
    same, other = make(flags), make(flags, "POOLING=avg")
    assert same.returncode == 0, same.stderr + batching
    assert "is there, as asked for" in same.stderr
    assert other.returncode != 0
    assert "pooling is none, asked for avg" in other.stderr


def test_if_missing_needs_a_version(capsys):
    with pytest.raises(SystemExit):
        main(["vgg16", "--if-missing"])
    assert "--if-missing needs --version N" in capsys.readouterr().err
