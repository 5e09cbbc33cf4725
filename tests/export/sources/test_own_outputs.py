"""Networks of the user's own: what is exported is what their own `predict` gives."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from featserve_export import ExportOptions, InvalidOptionError, VerificationError, WeightsError, export_backbone
from featserve_export.cli import main
from featserve_export.graph.freeze import freeze
from featserve_export.proof.first_layer import measure_first_layer
from featserve_export.sources.load import load_live_model
from keras import layers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
SIDE = 32


def backbone(name="base"):
    keras.utils.set_random_seed(1)
    images = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(4, 3, strides=2, name="stem")(images)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(6.0, name="relu")(x)
    return keras.Model(images, layers.Conv2D(5, 3, name="top")(x), name=name)


def served(path, signature="float_images"):
    """Calls a signature of an exported version."""
    function = tf.saved_model.load(str(path)).signatures[signature]
    return lambda images: {name: value.numpy() for name, value in function(images=tf.constant(images)).items()}


def saved(model, folder, suffix=".keras"):
    path = folder / f"own{suffix}"
    model.save(path)
    return path


def options_for(path, folder, **options):
    return ExportOptions(str(path), **{"preprocess": "none", "model_root": folder / "models", **options})


def frozen(options):
    """Loads a model and runs its frozen graph on `photos()`: the part of an export that decides what is output."""
    live = load_live_model(options)
    graph = freeze(live.activations, live.layers, live.image_size)
    with tf.Graph().as_default() as tf_graph, tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(graph.graph_def, name="")
        fetches = {layer: tf_graph.get_tensor_by_name(f"{node}:0") for layer, node in graph.outputs.items()}
        weights = {f"{name}:0": value for name, value in graph.weights.items()}
        return live, session.run(fetches, {"images:0": photos(), **weights})


def photos(count=3, channels=3):
    return np.random.default_rng(3).uniform(0, 255, (count, SIDE, SIDE, channels)).astype(np.float32)


def inputs(channels=3):
    return keras.Input((SIDE, SIDE, channels))


def check(options, expected):
    """Compares what is output with `expected`, and the reference that the proof uses as well."""
    live, received = frozen(options)
    assert live.layers == tuple(expected)
    reference = live.reference(photos())
    for name, value in expected.items():
        for values in (received[name], reference[name]):
            np.testing.assert_allclose(values, value, rtol=1e-3, atol=1e-4 * np.abs(value).max(), err_msg=name)


def nested_functional():
    images = inputs()
    return keras.Model(images, backbone()(layers.Rescaling(1 / 255)(images)))


def nested_sequential():
    return keras.Sequential([inputs(), layers.Rescaling(1 / 255), backbone()])


def shared_layer_called_twice():
    images = inputs()
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    return keras.Model(images, shared(shared(images)))


def two_heads_share_a_layer():
    images = inputs()
    shared = layers.Conv2D(3, 3, name="shared")
    left, right = layers.Rescaling(1 / 9, name="left")(images), layers.ReLU(99.0, name="right")(images)
    return keras.Model(images, [shared(left), shared(right)])


def operation_as_output():
    images = inputs()
    return keras.Model(images, keras.ops.normalize(layers.GlobalAveragePooling2D()(backbone()(images)), axis=-1))


def layer_and_operation():
    images = inputs()
    embedding = layers.Dense(6, name="embedding")(layers.GlobalAveragePooling2D()(backbone()(images)))
    return keras.Model(images, [embedding, keras.ops.normalize(embedding, axis=-1)])


def dict_of_outputs():
    images = inputs()
    x = backbone()(images)
    return keras.Model(images, {"map": x, "vector": layers.GlobalAveragePooling2D()(x)})


def nested_with_two_outputs():
    base = backbone()
    inner = keras.Model(base.inputs, [base.get_layer("relu").output, base.output], name="inner")
    images = inputs()
    return keras.Model(images, inner(layers.Rescaling(1 / 255)(images)))


def keys_of_all_kinds():
    images = inputs()
    x = layers.Conv2D(3, 3)(images)
    return keras.Model(images, {"a map": x, "x#y:z": {"max, 1": layers.GlobalMaxPooling2D()(x)}})


def one_tensor_twice():
    images = inputs()
    x = layers.Conv2D(3, 3, name="convolution")(images)
    return keras.Model(images, [x, x])


def names_with_spaces_and_commas():
    images = inputs()
    x = layers.Conv2D(3, 3, name="conv, first")(images)
    return keras.Model(images, [x, layers.ReLU(name="last one")(x)])


def one_number_an_image():
    images = inputs()
    return keras.Model(images, keras.ops.max(layers.GlobalAveragePooling2D()(images), axis=-1))


def dropout_beside_its_input():
    images = inputs()
    x = layers.Conv2D(3, 3, name="convolution")(images)
    return keras.Model(images, [layers.Dropout(0.5, name="dropped")(x), x])


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (nested_functional, ["base"]),
        (nested_sequential, ["base"]),
        (shared_layer_called_twice, ["shared#2"]),
        (two_heads_share_a_layer, ["shared", "shared#2"]),
        (operation_as_output, ["normalize"]),
        (layer_and_operation, ["embedding", "normalize"]),
        (dict_of_outputs, ["map", "vector"]),
        (nested_with_two_outputs, ["inner/relu", "inner/top"]),
        (one_tensor_twice, ["convolution", "convolution_2"]),
        (one_number_an_image, ["max"]),
        (dropout_beside_its_input, ["dropped", "convolution"]),
    ],
)
def test_the_models_own_outputs_are_exported(tmp_path, build, names):
    keras.utils.clear_session()
    model = build()
    predicted = model.predict(photos(), verbose=0)
    values = list(predicted.values()) if isinstance(predicted, dict) else predicted
    values = values if isinstance(values, list) else [values]
    check(options_for(saved(model, tmp_path), tmp_path), dict(zip(names, values, strict=True)))


def test_keys_may_hold_anything(tmp_path):
    model = keys_of_all_kinds()
    predicted = model.predict(photos(), verbose=0)
    report = export_backbone(options_for(saved(model, tmp_path), tmp_path))
    assert list(report.manifest["layers"]) == ["a map", "x#y:z/max, 1"]
    received = served(report.path)(photos())
    np.testing.assert_allclose(received["x#y:z/max, 1"], predicted["x#y:z"]["max, 1"], rtol=1e-3)
    alone = served(report.path, "float_images/a map")(photos())
    np.testing.assert_allclose(alone["a map"], predicted["a map"], rtol=1e-3, atol=1e-2)


def test_layers_are_found_at_any_depth(tmp_path):
    """The value expected is read without the exporter: by the layers called one after another."""
    base = backbone()
    images = inputs()
    middle = keras.Model(images, base(layers.Rescaling(1 / 255, name="scale")(images)), name="middle")
    outer = inputs()
    flipped = layers.RandomFlip(name="flip")(outer)
    model = keras.Model(outer, layers.Dense(2)(layers.GlobalAveragePooling2D()(middle(flipped))))
    wanted = ("middle/base/relu", "middle", "middle/scale")
    path = saved(model, tmp_path)
    scaled = photos() / 255
    x = base.get_layer("relu")(base.get_layer("norm")(base.get_layer("stem")(scaled)))
    expected = {"middle/base/relu": x.numpy(), "middle": base.get_layer("top")(x).numpy(), "middle/scale": scaled}
    check(options_for(path, tmp_path, layers=wanted), expected)


def test_a_call_of_several_is_chosen_by_its_number(tmp_path):
    images = inputs()
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    model = keras.Model(images, layers.ReLU(name="end")(shared(shared(images))))
    once = shared(photos()).numpy()
    path = saved(model, tmp_path)
    options = options_for(path, tmp_path, layers=("shared#1", "shared#2"))
    check(options, {"shared": once, "shared#2": shared(once).numpy()})
    with pytest.raises(InvalidOptionError, match=r"'shared', which .* computes 2 of: choose from shared#1, shared#2"):
        load_live_model(options_for(path, tmp_path, layers=("shared",)))


def test_a_nested_layer_and_a_call_of_several_have_signatures_of_their_own(tmp_path):
    images = inputs()
    base = backbone()
    shared = layers.Conv2D(5, 3, padding="same", name="shared")
    model = keras.Model(images, layers.ReLU(name="end")(shared(shared(base(images)))))
    x = base.get_layer("relu")(base.get_layer("norm")(base.get_layer("stem")(photos())))
    twice = shared(shared(base.get_layer("top")(x)))
    path = saved(model, tmp_path)
    report = export_backbone(options_for(path, tmp_path, layers=("base/relu", "shared#2")))
    for name, expected in (("base/relu", x.numpy()), ("shared#2", twice.numpy())):
        alone = served(report.path, f"float_images/{name}")(photos())
        np.testing.assert_allclose(alone[name], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "meant"),
    [("tpo", "did you mean base/top"), ("top", "did you mean base/top"), ("bsae", "did you mean base")],
)
def test_a_layer_that_is_not_there_is_answered_with_the_closest(tmp_path, name, meant):
    with pytest.raises(InvalidOptionError, match=f"{meant}.*--show-layers lists all"):
        load_live_model(options_for(saved(nested_sequential(), tmp_path), tmp_path, layers=(name,)))


def test_layers_of_a_file_are_listed(tmp_path, capsys):
    path = tmp_path / "own.keras"
    nested_sequential().save(path)
    assert main(["--show-layers", str(path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["LAYER", "KIND", "OUTPUT", "SHAPE", "PARAMETERS"]
    assert ["base/stem", "layer", "15×15×4", "112"] in lines
    assert ["base", "model", "13×13×5", "313"] in lines


def test_names_that_tensorflow_does_not_take_are_refused(tmp_path, capsys):
    path = saved(names_with_spaces_and_commas(), tmp_path)
    assert main([str(path), "--preprocess", "none", "--model-root", str(tmp_path / "models")]) == 2
    message = capsys.readouterr().err
    assert "a Conv2D named 'conv, first', on which Keras' own predict fails; rename it" in message
    assert not (tmp_path / "models").exists()


def test_a_model_of_python_code_is_exported(tmp_path):
    objects = tmp_path / "objects.py"
    objects.write_text(
        "import keras\n"
        "class Net(keras.Model):\n"
        "    def __init__(self, **options):\n"
        "        super().__init__(**options)\n"
        "        self.convolution = keras.layers.Conv2D(4, 3)\n"
        "    def call(self, images):\n"
        "        x = self.convolution(images / 255.0)\n"
        "        return {'map': x, 'vector': keras.ops.mean(x, axis=(1, 2))}\n"
    )
    scope: dict = {}
    exec(objects.read_text(), scope)
    model = scope["Net"]()
    expected = model.predict(photos(), verbose=0)
    path = saved(model, tmp_path)
    check(options_for(path, tmp_path, custom_objects=objects), expected)
    with pytest.raises(InvalidOptionError, match="a Net whose calls are Python code: leave --layers out"):
        load_live_model(options_for(path, tmp_path, custom_objects=objects, layers=("convolution",)))


def test_a_branch_that_needs_the_image_alone_is_exported(tmp_path):
    image, meta = inputs(), keras.Input((4,), name="meta")
    features = layers.GlobalAveragePooling2D(name="features")(backbone()(image))
    model = keras.Model([meta, image], layers.Dense(2)(layers.Concatenate()([features, meta])))
    with pytest.raises(InvalidOptionError, match="outputs that need one image and nothing else, .* meta"):
        load_live_model(options_for(saved(model, tmp_path), tmp_path))
    expected = keras.Model(image, features).predict(photos(), verbose=0)
    check(options_for(tmp_path / "own.keras", tmp_path, layers=("features",)), {"features": expected})


def test_a_gray_network_is_exported(tmp_path):
    images = inputs(1)
    model = keras.Model(images, layers.Conv2D(4, 3, name="convolution")(layers.Rescaling(1 / 255)(images)))
    options = options_for(saved(model, tmp_path), tmp_path)
    gray = np.repeat(photos(channels=1), 3, -1)
    expected = model.predict(gray[..., :1], verbose=0)
    report = export_backbone(options)
    received = served(report.path)(gray)["convolution"]
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-4)
    assert report.manifest["preprocessing"]["gray"] is True


def test_a_network_of_channels_first_is_exported(tmp_path):
    images = keras.Input((3, SIDE, SIDE))
    x = layers.Conv2D(4, 3, name="convolution")(layers.Permute((2, 3, 1))(images))
    model = keras.Model(images, x)
    options = options_for(saved(model, tmp_path), tmp_path)
    check(options, {"convolution": model.predict(np.moveaxis(photos(), -1, 1), verbose=0)})
    with pytest.raises(InvalidOptionError, match="expected --pooling none"):
        load_live_model(options_for(saved(model, tmp_path), tmp_path, pooling="avg"))


def test_a_savedmodel_is_exported_through_its_signature(tmp_path):
    model = layer_and_operation()
    first, second = model.predict(photos(), verbose=0)
    model.export(tmp_path / "saved", verbose=False)
    options = options_for(tmp_path / "saved", tmp_path)
    check(options, {"output_0": first, "output_1": second})
    np.testing.assert_allclose(served(export_backbone(options).path)(photos())["output_1"], second, rtol=1e-3)


def test_a_batch_that_is_mixed_is_refused(tmp_path):
    images = inputs()
    x = layers.GlobalAveragePooling2D()(images)
    model = keras.Model(images, x - keras.ops.mean(x, axis=0, keepdims=True))
    with pytest.raises(VerificationError):
        export_backbone(options_for(saved(model, tmp_path), tmp_path))
    assert not list((tmp_path / "models").rglob("*"))


def test_an_output_without_a_row_for_each_image_is_refused(tmp_path):
    images = inputs()
    model = keras.Model(images, keras.ops.max(layers.GlobalAveragePooling2D()(images), axis=0))
    with pytest.raises(InvalidOptionError, match="a row for each image, received max of shape"):
        load_live_model(options_for(saved(model, tmp_path), tmp_path))


CUSTOM = (
    "import keras\n"
    "class Scale(keras.layers.Layer):\n"
    "    def call(self, images):\n"
    "        return images * 0.5\n"
    "def swishy(x):\n"
    "    return x * keras.ops.sigmoid(x)\n"
)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("kind", ["Scale", "swishy"])
def test_custom_objects_are_named_and_given(tmp_path, suffix, kind, capsys):
    objects = tmp_path / "objects.py"
    objects.write_text(CUSTOM)
    scope: dict = {}
    exec(CUSTOM, scope)
    images = inputs()
    last = (
        scope["Scale"](name="last") if kind == "Scale" else layers.Conv2D(3, 3, activation=scope["swishy"], name="last")
    )
    model = keras.Model(images, last(images))
    path = tmp_path / f"own{suffix}"
    model.save(path)
    with pytest.raises(WeightsError, match=f"'{kind}'.*--custom-objects FILE.py") as refused:
        load_live_model(options_for(path, tmp_path))
    assert len(str(refused.value)) < 600
    check(options_for(path, tmp_path, custom_objects=objects), {"last": model.predict(photos(), verbose=0)})


@pytest.mark.parametrize(("text", "message"), [(None, "which is not there"), ("1/0", "ZeroDivisionError")])
def test_a_file_of_custom_objects_that_does_not_run_is_refused(tmp_path, text, message):
    objects = tmp_path / "objects.py"
    if text is not None:
        objects.write_text(text)
    with pytest.raises(InvalidOptionError, match=message):
        load_live_model(options_for(saved(nested_sequential(), tmp_path), tmp_path, custom_objects=objects))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_needs_a_switch(tmp_path, suffix):
    images = inputs()
    path = tmp_path / f"own{suffix}"
    keras.Model(images, layers.Lambda(lambda x: x / 255, name="scaled")(images)).save(path)
    with pytest.raises(WeightsError, match="a Lambda layer, whose code is in the file; .* add --allow-lambda"):
        load_live_model(options_for(path, tmp_path))
    check(options_for(path, tmp_path, allow_lambda=True), {"scaled": photos() / 255})


def test_a_lambda_that_fails_is_quoted(tmp_path):
    images = inputs()
    path = tmp_path / "own.keras"
    keras.Model(images, layers.Lambda(lambda x: x * tf.constant(2.0), output_shape=(SIDE, SIDE, 3))(images)).save(path)
    with pytest.raises((InvalidOptionError, WeightsError), match="name 'tf' is not defined"):
        export_backbone(options_for(path, tmp_path, allow_lambda=True))


def trained(kind):
    """A network whose first normalisation has seen pixels of -1…1."""
    images = inputs()
    x = layers.Rescaling(1 / 127.5, -1)(images) if kind == "inside" else images
    x = layers.Conv2D(8, 3, name="convolution")(x)
    normalisation = layers.BatchNormalization(momentum=0.0, name="normalisation")
    model = keras.Model(images, normalisation(x))
    seen = photos(16) if kind == "inside" else photos(16) / 127.5 - 1
    model(seen, training=True)
    return model


@pytest.mark.parametrize(
    ("kind", "preprocess", "arrives", "warning"),
    [
        ("inside", "none", (-1, 1), None),
        ("inside", "mobilenet_v2", (-1.0078, -0.9922), "seems to happen twice with --preprocess"),
        ("outside", "mobilenet_v2", (-1, 1), None),
        ("outside", "none", (0, 255), "seems to happen never with --preprocess none"),
    ],
)
def test_preprocessing_that_happens_twice_or_never_is_told(tmp_path, kind, preprocess, arrives, warning):
    options = options_for(saved(trained(kind), tmp_path), tmp_path, preprocess=preprocess)
    first = measure_first_layer(load_live_model(options), photos())
    assert [warning in text for text in first.warnings] == ([True] if warning else [])
    assert first.name == "convolution"
    assert (first.low, first.high) == pytest.approx(arrives, abs=0.01 * (arrives[1] - arrives[0]))


def test_a_network_without_normalisation_is_judged_by_its_range(tmp_path):
    def warnings(model, preprocess):
        options = options_for(saved(model, tmp_path), tmp_path, preprocess=preprocess)
        return measure_first_layer(load_live_model(options), photos()).warnings

    images = inputs()
    model = keras.Model(images, layers.Conv2D(4, 3, name="c")(layers.Rescaling(1 / 127.5, -1)(images)))
    assert warnings(model, "none") == ()
    (warning,) = warnings(model, "mobilenet_v2")
    assert "the network itself rescales what --preprocess has already brought to -0.9999…0.9999" in warning
    plain = keras.Model(images, layers.Conv2D(4, 3, name="c")(images))
    assert warnings(plain, "mobilenet_v2") == ()
    (warning,) = warnings(plain, "none")
    assert "nothing rescales them" in warning


def test_what_is_noticed_stands_in_the_manifest_and_on_the_terminal(tmp_path, capsys):
    options = ["--alpha", "0.25", "--weights", "random", "--image-size", "64", "--model-root", str(tmp_path)]
    assert main(["mobilenet", *options]) == 0
    messages = capsys.readouterr().err
    assert "warning: the activations of conv_pw_13_relu are blank" in messages and "use trained ones" in messages
    assert "pixels arrive at conv1 as -1…1" in messages
    manifest = json.loads((tmp_path / "mobilenet/1/assets.extra/manifest.json").read_text())
    assert manifest["alpha"] == 0.25 and len(manifest["warnings"]) == 1


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
@pytest.mark.parametrize("kind", ["classes", "nested"])
def test_a_backbone_takes_the_weights_of_a_network_with_another_classifier(tmp_path, suffix, kind):
    keras.utils.clear_session()
    options = {"alpha": 0.25, "input_shape": (32, 32, 3), "weights": None}
    if kind == "classes":
        whole = keras.applications.MobileNet(classes=7, **options)
        expected = whole.get_weights()[:-2]
    else:
        base = keras.applications.MobileNet(include_top=False, **options)
        whole = keras.Sequential([inputs(), layers.Rescaling(1 / 255), base, layers.Flatten(), layers.Dense(7)])
        expected = base.get_weights()
    path = tmp_path / f"w{suffix}"
    (whole.save_weights if suffix == ".weights.h5" else whole.save)(path)
    asked = ExportOptions("mobilenet", alpha=0.25, image_size=(32, 32), weights=str(path))
    if (suffix, kind) == (".weights.h5", "nested"):
        with pytest.raises(WeightsError, match="another architecture"):
            load_live_model(asked)
        return
    for received, value in zip(load_live_model(asked).model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(received, value)


def test_weights_alone_are_no_model(tmp_path, capsys):
    path = tmp_path / "own.weights.h5"
    backbone().save_weights(path)
    assert main([str(path), "--preprocess", "none", "--model-root", str(tmp_path / "m")]) == 2
    assert "--weights" in capsys.readouterr().err
