"""Networks drawn at random: whatever graph Keras can write is output as its own `predict` gives it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from featserve_export import ExportOptions
from featserve_export.graph.freeze import freeze
from featserve_export.sources.activations import list_activations
from featserve_export.sources.load import load_live_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
SIDE = 9
CHANNELS = 3
PHOTOS = np.random.default_rng(5).uniform(0, 255, (3, SIDE, SIDE, CHANNELS)).astype(np.float32)


class Drawn:
    """Draws a graph whose tensors all have the same shape, so that everything fits everything."""

    def __init__(self, draw):
        self.draw = draw
        self.shared = [layers.Conv2D(CHANNELS, 3, padding="same", name=f"shared_{index}") for index in range(2)]

    def one_of(self, items):
        return self.draw(st.sampled_from(items))

    def model(self, depth):
        """A model of some calls, with one output or several, in a list or a dict."""
        images = keras.Input((SIDE, SIDE, CHANNELS))
        tensors = [layers.Rescaling(1 / 255)(images) if depth == 0 else images]
        for _ in range(self.draw(st.integers(1, 4))):
            tensors += self.call(self.one_of(tensors), tensors, depth)
        wanted = [self.one_of(tensors[1:]) for _ in range(self.draw(st.integers(1, 3)))]
        structure = self.one_of(["one", "list", "dict"])
        if structure == "one":
            return keras.Model(images, wanted[-1])
        if structure == "list":
            return keras.Model(images, wanted)
        return keras.Model(images, {f"key_{index}": tensor for index, tensor in enumerate(wanted)})

    def call(self, tensor, tensors, depth):
        kind = self.one_of(["convolution", "shared", "operation", "sum", "dropout", "nested", "nested"])
        if kind == "nested" and depth < 3:
            inner = self.model(depth + 1)
            called = [inner(tensor)]
            if self.draw(st.booleans()):
                called.append(inner(keras.ops.tanh(tensor)))
            return keras.tree.flatten(called)
        if kind == "shared":
            return [self.one_of(self.shared)(tensor)]
        if kind == "operation":
            return [keras.ops.tanh(tensor)]
        if kind == "sum":
            return [tensor + self.one_of(tensors)]
        if kind == "dropout":
            return [layers.Dropout(0.5)(tensor)]
        return [layers.Conv2D(CHANNELS, 3, padding="same", activation="relu")(tensor)]


def outputs_of(live):
    graph = freeze(live.activations, live.layers, live.image_size)
    with tf.Graph().as_default() as tf_graph, tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(graph.graph_def, name="")
        fetches = {layer: tf_graph.get_tensor_by_name(f"{node}:0") for layer, node in graph.outputs.items()}
        weights = {f"{name}:0": value for name, value in graph.weights.items()}
        return session.run(fetches, {"images:0": PHOTOS, **weights})


@settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_drawn_network_is_output_as_it_predicts(data, tmp_path_factory):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("drawn") / "own.keras"
    model = Drawn(data.draw).model(0)
    model.save(path)
    predicted = model.predict(PHOTOS, verbose=0)
    values = list(predicted.values()) if isinstance(predicted, dict) else predicted
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    live = load_live_model(ExportOptions(str(path), preprocess="none", model_root=path.parent))
    assert len(live.layers) == len(set(live.layers)) == len(values)
    for name, received, value in zip(live.layers, outputs_of(live).values(), values, strict=True):
        np.testing.assert_allclose(received, value, rtol=1e-3, atol=1e-4, err_msg=name)
    names = [name for name, it in list_activations(live.model).items() if it.kind != "input"]
    wanted = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
    wanted = [f"{name}#1" if f"{name}#2" in names else name for name in wanted]
    live = load_live_model(ExportOptions(str(path), layers=wanted, preprocess="none", model_root=path.parent))
    reference = live.reference(PHOTOS)
    for name, received in outputs_of(live).items():
        np.testing.assert_allclose(received, reference[name], rtol=1e-3, atol=1e-4, err_msg=name)
