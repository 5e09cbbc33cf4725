import json

import numpy as np
import pytest
import tensorflow as tf
from featserve_export import ExportOptions, InvalidOptionError, list_backbones
from featserve_export.backbones import find_backbone
from featserve_export.cli import main
from featserve_export.sources.backbone import build_untrained
from featserve_export.sources.load import load_live_model


def test_names_are_unique_and_the_default_is_first():
    names = [backbone.name for backbone in list_backbones()]
    assert names[0] == "efficientnet_lite0"
    assert len(set(names)) == len(names)


def test_every_network_of_keras_is_in_the_table():
    import keras

    constructors = {name for name in dir(keras.applications) if name[0].isupper()}
    assert constructors <= {backbone.constructor[1] for backbone in list_backbones()}


def test_every_backbone_has_its_figures():
    assert all(60 < backbone.top1_percent < 90 and backbone.gflops > 0 for backbone in list_backbones())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0", "vgg16"])
def test_the_operations_are_those_of_tensorflows_profiler(name):
    live = load_live_model(ExportOptions(name, weights="random"))
    image = tf.TensorSpec((1, *live.image_size, 3), tf.float32)
    graph = tf.function(lambda images: live.model(images, training=False)).get_concrete_function(image).graph
    options = {**tf.compat.v1.profiler.ProfileOptionBuilder.float_operation(), "output": "none"}
    counted = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    assert find_backbone(name).gflops == pytest.approx(counted / 1e9, abs=0.01)


def test_the_list_has_what_was_measured_on_this_machine(capsys):
    assert main(["mobilenet_v3_small,MobileNetV2", "--list", "--measure"]) == 0
    header, *rows = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert header.split() == "NAME INPUT DEFAULT OUTPUT SHAPE TOP-1 % MB GFLOPS MS WEIGHTS".split()
    assert [row.split()[0] for row in rows] == ["mobilenet_v3_small", "mobilenet_v2"]
    assert all(float(row.split()[7]) > 0 for row in rows)
    assert main(["vgg16", "--list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["megabytes"], row["top1_percent"], "milliseconds" in row) == (59, 71.3, False)
    assert main(["vgg61", "--list"]) == 2
    assert "did you mean vgg19, vgg16?" in capsys.readouterr().err


@pytest.mark.parametrize("spelling", ["ResNet50V2", "resnet50_v2", "RESNET50-V2", "resnet50v2"])
def test_any_spelling_is_found(spelling):
    assert find_backbone(spelling).name == "resnet50_v2"


@pytest.mark.parametrize(("name", "meant"), [("vgg61", "vgg16"), ("mobilnet", "mobilenet"), ("resnet-5", "resnet50")])
def test_an_unknown_name_is_answered_with_the_closest(name, meant):
    with pytest.raises(InvalidOptionError, match=f"received '{name}'; did you mean .*{meant}"):
        find_backbone(name)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet", "mobilenet_v2", "vgg16", "resnet50"])
def test_the_table_tells_what_is_built(name):
    backbone = find_backbone(name)
    live = load_live_model(ExportOptions(name, weights="random"))
    assert live.layers == (backbone.output,)
    assert live.model.output_shape[1:] == backbone.output_shape
    assert live.model.count_params() == backbone.parameters


def test_layer_names_do_not_depend_on_what_was_built_before():
    first, second = (build_untrained(find_backbone("mobilenet_v2"), (32, 32), 0.35) for _ in range(2))
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["conv_pw_13_rela"]}, "did you mean conv_pw_13_relu"),
        ({"layers": ["conv1", "conv1"]}, "each layer once"),
        ({"pooling": "sum"}, "expected pooling none, avg, max, received 'sum'"),
        ({"image_size": (8, 8)}, "at least 32x32"),
        ({"preprocess": "vgg16"}, "--preprocess is for a model of your own"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(InvalidOptionError, match=message):
        load_live_model(ExportOptions("mobilenet", weights="random", **options))


def test_alpha_is_for_the_mobilenets():
    with pytest.raises(InvalidOptionError, match="vgg16 has one width"):
        load_live_model(ExportOptions("vgg16", weights="random", alpha=0.5))


def test_pooling_reduces_height_and_width():
    live = load_live_model(ExportOptions("mobilenet", weights="random", alpha=0.25, image_size=(32, 32), pooling="avg"))
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    features = live.model.predict(live.preprocess(images.copy()), verbose=0)
    np.testing.assert_allclose(live.reference(images)["conv_pw_13_relu"], features.mean((1, 2)), rtol=1e-5)
