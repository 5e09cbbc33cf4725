"""SavedModels that others wrote, with all that TensorFlow lets them hold."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from featserve_serving.c_api import saved_model
from featserve_serving.c_api.library import OpError
from featserve_serving.errors import InvalidArgument
from featserve_serving.models import servable
from featserve_serving.models.servable import Servable
from featserve_serving.options import ModelOptions
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2


@pytest.fixture
def loaded():
    """Returns a function that loads a SavedModel."""
    servables = []

    def load(path):
        servables.append(Servable(path, ModelOptions()))
        return servables[-1]

    yield load
    for each in servables:
        each.close()


def words(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_tables_of_an_asset_variables_and_strings(tmp_path, loaded):
    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("cat\ndog\n")

    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            source = tf.lookup.TextFileInitializer(
                str(vocabulary),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            self.table = tf.lookup.StaticHashTable(source, -1)
            self.scale = tf.Variable([2.0, 3.0], name="scale")
            self.names = tf.Variable(["a", "b", "c"], name="names")

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
        def find(self, word):
            index = self.table.lookup(word)
            return {"index": index, "name": tf.gather(self.names, index + 1), "scale": self.scale * 1.0}

    module = Model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.find)
    vocabulary.unlink()
    outputs = loaded(tmp_path / "1").run("", {"word": words(b"dog", b"bird", b"cat")})
    assert outputs["index"].tolist() == [1, -1, 0] and outputs["name"].tolist() == [b"c", b"a", b"b"]
    assert outputs["scale"].tolist() == [2.0, 3.0]


def test_a_graph_of_tensorflow_1(tmp_path, loaded):
    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("cat\ndog\n")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asset = tf.constant(str(vocabulary))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
        table = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(
                asset, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            ),
            1,
        )
        offset = v1.get_variable("offset", initializer=tf.constant(10, tf.int64), use_resource=False)
        word = v1.placeholder(tf.string, [None])
        found = table.lookup(word) + offset
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(tmp_path / "1"))
        signature = v1.saved_model.predict_signature_def({"word": word}, {"index": found})
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()
    vocabulary.unlink()
    assert loaded(tmp_path / "1").run("", {"word": words(b"dog", b"cat")})["index"].tolist() == [11, 10]


def test_a_text_file_and_tags_that_are_missing(saved_model_path):
    binary = saved_model_path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(binary.read_bytes())
    binary.unlink()
    (saved_model_path / "saved_model.pbtxt").write_text(text_format.MessageToString(model))
    assert saved_model.read(saved_model_path, ("serve",)).signature_def["serving_default"].inputs
    with pytest.raises(OpError, match="matching supplied tags: { serve gpu }") as refusal:
        saved_model.read(saved_model_path, ("serve", "gpu"))
    assert refusal.value.code == 5


@pytest.fixture
def saved_model_path(publish):
    return publish(1)


def test_outputs_past_the_bound_are_picked_from_all(tmp_path, loaded, monkeypatch):
    monkeypatch.setattr(servable, "_MAX_STEPS", 2)
    names = [f"y{index}" for index in range(6)]
    module = tf.Module()
    module.many = tf.function(
        lambda x: {name: x + float(index) for index, name in enumerate(names)},
        input_signature=[tf.TensorSpec([], tf.float32, name="x")],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.many)
    version = loaded(tmp_path / "1")
    for index, name in enumerate(names):
        assert version.run("", {"x": np.float32(1) * np.ones((), np.float32)}, [name]) == {name: 1.0 + index}
    assert len(version._prepared) == 3


def test_a_warm_up_file_that_is_damaged_is_told(saved_model_path, loaded):
    from featserve_serving.models import warmup

    (saved_model_path / "assets.extra").mkdir()
    file = saved_model_path / warmup.FILE
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(b"a record")
    file.write_bytes(file.read_bytes()[:-6] + b"!" * 6)
    version = loaded(saved_model_path)
    with pytest.raises(OpError, match="corrupted record") as refusal:
        warmup.replay(version, saved_model_path, 1)
    assert refusal.value.code == 15


def test_an_input_of_another_type_is_named(saved_model_path, loaded):
    with pytest.raises(InvalidArgument, match=r"Expects arg\[0\] to be float but uint8 is provided"):
        loaded(saved_model_path).run("", {"x": np.zeros(1, np.uint8)})
