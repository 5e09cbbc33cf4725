import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from featserve_export import ExportOptions, InvalidOptionError, VerificationError, WeightsError, export_backbone
from featserve_export import pipeline as export_module
from featserve_export.cli import main
from featserve_export.manifest import read_manifest
from featserve_export.proof.golden import verify
from featserve_export.sources.load import load_live_model

from ..golden_file import load_golden

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="convolution")(images)
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(images, keras.layers.ReLU(name="features")(x))
    path = tmp_path_factory.mktemp("own") / "own.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def export(network):
    """The arguments that export the network, and what they printed."""
    arguments = [str(network), "--preprocess", "none", "--model-root", str(network.parent / "models"), "--version", "7"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(arguments) == 0
    return arguments, printed.getvalue()


def test_a_model_of_ones_own_is_exported(network, export, capsys):
    arguments, printed = export
    assert printed.strip() == str(network.parent / "models" / "own" / "7")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert "expected a version that does not exist, received 7" in captured.err
    assert not captured.out


def test_a_constant_factor_is_refused(export):
    """The cosine does not see it."""
    path = Path(export[1].strip())
    golden = load_golden(path)
    assert read_manifest(path)["closeness"]["features"]["norm_difference"] < 1e-3
    for layers in golden.expected.values():
        layers["features"] /= 1.1
    for precision in ("bfloat16", "int8"):
        with pytest.raises(VerificationError, match=r"received a difference of 0\.100 from signature"):
            verify(path, golden, precision)


def test_the_list_needs_no_tensorflow():
    script = (
        "import sys; from featserve_export.cli import main; status = main(['--list', '--json']); "
        "sys.exit(status or 'tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)[0]["name"] == "efficientnet_lite0"


def test_a_version_that_exists_is_refused_before_tensorflow_is_imported(tmp_path):
    (tmp_path / "vgg16" / "3").mkdir(parents=True)
    script = (
        "import sys; from featserve_export.cli import main; "
        "status = main(['vgg16', '--version', '3', '--model-root', sys.argv[1]]); "
        "sys.exit(status + 10 * ('tensorflow' in sys.modules or 'keras' in sys.modules))"
    )
    finished = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert finished.returncode == 2, finished.stderr
    assert "expected a version that does not exist, received 3" in finished.stderr


def test_a_graph_that_differs_is_refused(network, tmp_path, monkeypatch):
    right = export_module.freeze

    def wrong(activations, *arguments):
        return right(lambda images: activations(images * 1.01 + 3.0), *arguments)

    monkeypatch.setattr(export_module, "freeze", wrong)
    with pytest.raises(VerificationError, match="expected activations of features within"):
        export_backbone(ExportOptions(str(network), preprocess="none", model_root=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected --preprocess"),
        ({"preprocess": "vgg61"}, "did you mean .*vgg16"),
        ({"preprocess": "none", "layers": ["convolutoin"]}, "did you mean convolution"),
        ({"preprocess": "none", "image_size": (20, 20)}, "expected --image-size 16x16"),
        ({"preprocess": "none", "weights": "random"}, "--weights and --alpha are for backbones"),
        ({"preprocess": "none", "interpolation": "cubic"}, "expected interpolation"),
        ({"preprocess": "none", "precision": "float16"}, "expected precision"),
        ({"preprocess": "none", "max_pixels": 2**63}, "expected --max-pixels"),
        ({"preprocess": "none", "model_name": "../up"}, "expected a model name"),
    ],
)
def test_options_that_do_not_fit_are_refused(network, tmp_path, options, message):
    with pytest.raises(InvalidOptionError, match=message):
        export_backbone(ExportOptions(str(network), model_root=tmp_path, **options))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["none.keras", "garbage.keras", "garbage.h5", "directory.keras"])
def test_a_file_that_is_no_model_is_refused(tmp_path, name, capsys):
    path = tmp_path / name
    if name.startswith("garbage"):
        path.write_bytes(b"PK\x03\x04 garbage")
    elif name.startswith("directory"):
        path.mkdir()
    assert main([str(path), "--preprocess", "none", "--model-root", str(tmp_path / "root")]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "root").exists()


def test_a_name_that_no_server_takes_is_refused(network, tmp_path):
    path = tmp_path / "my model.keras"
    path.write_bytes(network.read_bytes())
    with pytest.raises(InvalidOptionError, match="received 'my model'; choose one with --model-name"):
        export_backbone(ExportOptions(str(path), preprocess="none", model_root=tmp_path / "root"))


@pytest.mark.parametrize("name", ["none.weights.h5", "garbage.weights.h5", "garbage.keras", "garbage.npz"])
def test_weights_that_cannot_be_read_are_refused(tmp_path, name):
    path = tmp_path / name
    if name.startswith("garbage"):
        path.write_bytes(b"garbage")
    with pytest.raises(WeightsError):
        export_backbone(
            ExportOptions("mobilenet", alpha=0.25, image_size=(32, 32), weights=str(path), model_root=tmp_path / "root")
        )
    assert not (tmp_path / "root").exists()


def test_a_failed_download_names_the_file_and_the_ways_on(tmp_path, monkeypatch):
    def unreachable(*arguments, **options):
        raise Exception("URL fetch failure on https://host/mobilenet_2_5_224_tf_no_top.h5: None -- unreachable")

    monkeypatch.setattr("keras.src.applications.mobilenet.file_utils.get_file", unreachable)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with pytest.raises(WeightsError, match=r"tf_no_top.h5: .*unreachable; put the file into .*random"):
        export_backbone(ExportOptions("mobilenet", alpha=0.25, weights="imagenet", model_root=tmp_path / "root"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_weights_come_from_a_file(tmp_path, suffix):
    source = keras.applications.MobileNet(alpha=0.25, input_shape=(32, 32, 3), weights=None, include_top=False)
    path = tmp_path / f"w{suffix}"
    (source.save_weights if suffix == ".weights.h5" else source.save)(path)
    live = load_live_model(ExportOptions("mobilenet", alpha=0.25, image_size=(32, 32), weights=str(path)))
    for received, expected in zip(live.model.get_weights(), source.get_weights(), strict=True):
        assert (received == expected).all()
    with pytest.raises(WeightsError, match="another architecture or width cannot be used"):
        load_live_model(ExportOptions("mobilenet", alpha=0.5, image_size=(32, 32), weights=str(path)))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["mobilnet"],
        [],
        ["vgg16", "--image-size", "big"],
        ["--rebatch", "/nowhere"],
        ["vgg16", "--rebatch", "/nowhere"],
    ],
)
def test_a_mistake_ends_with_status_2(arguments, capsys):
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    captured = capsys.readouterr()
    assert captured.err and not captured.out and "Traceback" not in captured.err
