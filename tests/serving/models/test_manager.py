"""What is loaded, swapped and unloaded, and what callers see of it."""

import shutil
import threading
from pathlib import Path

import grpc
import pytest
from featserve_serving import SetupError, create_server
from featserve_serving.models import warmup
from featserve_serving.models.config.source import model_source
from featserve_serving.models.manager import ModelManager
from featserve_serving.options import ServerOptions
from featserve_serving.server import Server
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

POLL_S = 0.05


def config_of(*models):
    """Returns a configuration of `(name, base path, rest of the entry)`."""
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" {rest} }}'
        for name, path, rest in models
    )
    return text_format.Parse(f"model_config_list {{ {entries} }}", model_server_config_pb2.ModelServerConfig())


@pytest.fixture
def serve(base_path):
    """Returns a function that starts a server of the model."""
    servers = []

    def start(**kwargs):
        if not kwargs.keys() & {"model_root", "model_config_file"}:
            kwargs |= {"model_base_path": base_path, "model_name": "adder"}
        servers.append(create_server(**{"poll_interval_s": POLL_S, **kwargs}))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop(1)


def test_a_new_version_takes_over_and_the_old_one_goes(publish, serve, caller, eventually):
    publish(1)
    client = caller(serve())
    assert client.predict(1) == (2, 1)
    publish(2)
    eventually(lambda: client.predict(1) == (3, 2))
    eventually(lambda: client.states()[1][0] == "END")
    with pytest.raises(grpc.RpcError) as refusal:
        client.predict(1, version=1)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


def test_removing_the_newest_version_rolls_back(publish, serve, caller, eventually):
    publish(1)
    newest = publish(2)
    client = caller(serve())
    assert client.predict(1)[1] == 2
    shutil.rmtree(newest)
    eventually(lambda: client.predict(1)[1] == 1)


def test_a_version_that_leaves_in_the_middle_of_a_look_waits_for_its_successor(
    publish, serve, caller, eventually, monkeypatch
):
    publish(1)
    newest = publish(2)
    client = caller(serve())
    assert client.predict(1) == (3, 2)
    load, left, available = ModelManager._load_aspired, threading.Event(), []

    def load_and_lose(manager, name):
        available.append(manager.catalog.available()[name])
        load(manager, name)
        if not left.is_set():
            newest.rename(newest.with_name("withdrawn"))
            left.set()

    monkeypatch.setattr(ModelManager, "_load_aspired", load_and_lose)
    eventually(lambda: client.predict(1) == (2, 1))
    eventually(lambda: client.states()[2][0] == "END")
    assert all(available), available


def test_a_broken_version_leaves_the_old_one_serving(publish, serve, caller, eventually, base_path, saved_model):
    publish(1)
    client = caller(serve())
    whole = base_path / "2.whole"
    whole.mkdir()
    (whole / "saved_model.pb").write_bytes(b"\x08\x01not a model")
    broken = whole.rename(base_path / "2")
    eventually(lambda: client.states().get(2, ("",))[0] == "END")
    error = client.states()[2][1]
    assert error and str(base_path) not in error
    assert client.predict(1)[1] == 1
    # Repaired in place, it is tried again.
    shutil.copytree(saved_model(2), broken, dirs_exist_ok=True)
    eventually(lambda: client.predict(1)[1] == 2)


def test_a_half_copied_version_waits_until_it_is_whole(publish, serve, caller, base_path, saved_model):
    publish(1)
    server = serve(poll_interval_s=0)
    client = caller(server)
    shutil.copytree(saved_model(2), base_path / "2", ignore=shutil.ignore_patterns("saved_model.pb"))
    server._manager.reconcile()
    assert client.states().keys() == {1}
    shutil.copy(saved_model(2) / "saved_model.pb", base_path / "2")
    server._manager.reconcile()
    assert client.predict(1)[1] == 2


def test_a_restart_falls_back_to_the_version_that_loads(publish, serve, caller, base_path):
    publish(1)
    (base_path / "2").mkdir()
    (base_path / "2" / "saved_model.pb").write_bytes(b"\xff")
    client = caller(serve())
    assert client.predict(1)[1] == 1
    assert client.states()[2][0] == "END"


def test_a_directory_that_disappears_changes_nothing(publish, serve, caller, base_path):
    publish(1)
    server = serve(poll_interval_s=0)
    client = caller(server)
    base_path.rename(base_path.with_name("gone"))
    server._manager.reconcile()
    assert client.predict(1) == (2, 1) and client.states()[1][0] == "AVAILABLE"


def test_policies(publish, serve, caller, base_path, tmp_path):
    for version in (1, 2, 3):
        publish(version)
    file = tmp_path / "models.config"
    models = [
        (name, base_path, f"model_version_policy {{ {policy} }}")
        for name, policy in {
            "newest": "latest {}",
            "two": "latest { num_versions: 2 }",
            "all": "all {}",
            "chosen": "specific { versions: 1 versions: 3 versions: 9 }",
        }.items()
    ]
    file.write_text(text_format.MessageToString(config_of(*models)))
    server = serve(model_config_file=file)
    assert server.models() == {"newest": [3], "two": [3, 2], "all": [3, 2, 1], "chosen": [3, 1]}
    assert caller(server).predict(1, model="chosen", version=1) == (2, 1)


def test_a_model_root_serves_all_its_models_and_finds_new_ones(publish, serve, caller, eventually, tmp_path):
    publish(1)
    publish(2)
    server = serve(model_root=tmp_path / "models")
    client = caller(server)
    assert client.predict(1, label="stable")[1] == 1
    assert client.predict(1, label="canary")[1] == 2
    publish(5, model="other")
    eventually(lambda: server.models().get("other") == [5])
    publish(3)
    eventually(lambda: client.predict(1, label="canary")[1] == 3)
    assert client.predict(1, label="stable")[1] == 2


def test_a_broken_model_in_a_model_root_holds_up_no_other(publish, serve, caller, eventually, tmp_path):
    publish(1)
    publish(2)
    broken = tmp_path / "models" / "broken" / "1" / "saved_model.pb"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"garbage")
    (tmp_path / "models" / "adder" / "3").mkdir()
    (tmp_path / "models" / "adder" / "3" / "saved_model.pb").write_bytes(b"garbage")
    server = serve(model_root=tmp_path / "models")
    client = caller(server)
    assert client.states("broken")[1][0] == "END"
    assert client.predict(1, label="stable") == (3, 2)
    publish(1, model="other")
    eventually(lambda: server.models().get("other") == [1])
    shutil.rmtree(broken.parent)
    publish(1, model="broken")
    eventually(lambda: server.models()["broken"] == [1])
    shutil.rmtree(tmp_path / "models" / "adder" / "3")
    publish(3)
    eventually(lambda: server.models()["adder"] == [3, 2])

    def canary():
        try:
            return client.predict(1, label="canary")[1]
        except grpc.RpcError as exc:
            assert exc.details() == "Unrecognized servable version label: canary"
            return None

    eventually(lambda: canary() == 3)


def test_the_configuration_file_is_polled(publish, serve, caller, eventually, base_path, tmp_path):
    publish(1)
    publish(2)
    file = tmp_path / "models.config"
    everything = "model_version_policy { all {} } version_labels { key: 'stable' value: %d }"
    file.write_text(text_format.MessageToString(config_of(("adder", base_path, everything % 1))))
    client = caller(serve(model_config_file=file))
    assert client.predict(1, label="stable")[1] == 1
    file.write_text("model_config_list { config { nmae: 'typo' } }")
    file.write_text(text_format.MessageToString(config_of(("adder", base_path, everything % 2))))
    eventually(lambda: client.predict(1, label="stable")[1] == 2)


def test_reload_replaces_the_model_set(publish, serve, caller, base_path, eventually):
    publish(1)
    client = caller(serve())
    client.reload(config_of(("renamed", base_path, "")))
    assert client.predict(1, model="renamed")[1] == 1
    publish(2)
    eventually(lambda: client.predict(1, model="renamed")[1] == 2)  # a poll later
    eventually(lambda: _code(client) is grpc.StatusCode.NOT_FOUND)
    eventually(lambda: client.health("adder") == "NOT_SERVING" and client.health("renamed") == "SERVING")
    publish(3)
    eventually(lambda: client.predict(1, model="renamed")[1] == 3)
    assert _code(client) is grpc.StatusCode.NOT_FOUND and client.health("adder") == "NOT_SERVING"


@pytest.mark.parametrize(
    ("models", "code", "text"),
    [
        ([("a", "/nowhere", "")], "FAILED_PRECONDITION", "did not become available"),
        ([("a", "relative", "")], "INVALID_ARGUMENT", "to have an absolute path or URI; got base_path()=relative"),
        ([("a", "/x", ""), ("a", "/x", "")], "INVALID_ARGUMENT", "Illegal to list model a multiple times"),
    ],
)
def test_a_refused_reload_changes_nothing(publish, serve, caller, eventually, models, code, text):
    publish(1)
    client = caller(serve())
    with pytest.raises(grpc.RpcError) as refusal:
        client.reload(config_of(*models))
    assert refusal.value.code().name == code and text in refusal.value.details()
    assert client.predict(1)[1] == 1
    publish(2)
    eventually(lambda: client.predict(1)[1] == 2)  # polls go on where they looked before


def test_reload_is_off_where_others_can_reach_it(publish, serve, caller, base_path):
    publish(1)
    server = serve(address="0.0.0.0:0")
    with pytest.raises(grpc.RpcError) as refusal:
        caller(server).reload(config_of(("adder", base_path, "")))
    assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "--enable_reload_rpc" in refusal.value.details()
    open_server = serve(address="0.0.0.0:0", enable_reload_rpc=True)
    caller(open_server).reload(config_of(("adder", base_path, "")))


def test_health_follows_the_models(publish, serve, caller, eventually):
    newest = publish(1)
    client = caller(serve())
    services = ("", "ModelService", "PredictionService", "tensorflow.serving.PredictionService", "adder")
    assert {client.health(service) for service in services} == {"SERVING"}
    shutil.rmtree(newest)
    eventually(lambda: {client.health(service) for service in services} == {"NOT_SERVING"})
    with pytest.raises(grpc.RpcError) as refusal:
        client.health("no such service")
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("bytes_", [b"", b"\x08", b"garbage"])
def test_nothing_to_serve_is_an_error_at_start(bytes_, base_path, serve):
    (base_path / "1").mkdir(parents=True)
    (base_path / "1" / "saved_model.pb").write_bytes(bytes_)
    with pytest.raises(SetupError, match="adder.*version 1"):
        serve()


def test_a_version_that_cannot_be_read_is_named(publish, serve, monkeypatch):
    path = publish(1)
    is_file = Path.is_file

    def refused(self, *args, **kwargs):  # as for a directory without search permission, whoever runs the test
        if self.parent == path:
            raise PermissionError(13, "Permission denied", str(self))
        return is_file(self, *args, **kwargs)

    monkeypatch.setattr(Path, "is_file", refused)
    (path / "saved_model.pb").unlink()
    with pytest.raises(SetupError, match="adder: version 1"):
        serve()


def test_an_operation_that_this_tensorflow_lacks_is_named(publish, base_path, serve):
    from tensorflow.core.protobuf import saved_model_pb2

    path = publish(1) / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    model.meta_graphs[0].graph_def.node.add(name="newer", op="OperationOfTomorrow")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SetupError, match="OperationOfTomorrow"):
        serve()


def test_sources_are_checked(tmp_path):
    with pytest.raises(SetupError, match="exactly one"):
        create_server()
    with pytest.raises(SetupError, match="No such file or directory; export a model first"):
        create_server(model_root=tmp_path / "nowhere")
    with pytest.raises(SetupError, match="found no such model"):
        create_server(model_root=tmp_path)
    malformed = tmp_path / "models.config"
    malformed.write_text("model_config_list {\n  config {\n    nmae: 'x'\n  }\n}\n")
    with pytest.raises(SetupError, match=r"models.config:3:5: .*nmae"):
        create_server(model_config_file=malformed)


def test_a_port_in_use_is_an_error_at_start(publish, serve):
    publish(1)
    server = serve(rest_address="127.0.0.1:0")
    with pytest.raises(SetupError, match=f"127.0.0.1:{server.port} for gRPC"):
        serve(address=f"127.0.0.1:{server.port}")
    with pytest.raises(SetupError, match=f"127.0.0.1:{server.rest_port} for REST"):
        serve(rest_address=f"127.0.0.1:{server.rest_port}")


def test_warm_up_is_replayed_and_its_failure_is_the_loads(publish, serve):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    def record(signature):
        log = prediction_log_pb2.PredictionLog()
        request = log.predict_log.request
        request.model_spec.signature_name = signature
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
        return log.SerializeToString()

    path = publish(1)
    (path / "assets.extra").mkdir()
    for signature, works in (("serving_default", True), ("no such signature", False)):
        with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
            writer.write(record(signature))
        if works:
            assert serve().models() == {"adder": [1]}
        else:
            with pytest.raises(SetupError, match="no such signature"):
                serve()


def _code(client):
    try:
        client.predict(1)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_models_of_a_root_serve_as_they_come(publish, tmp_path, caller, monkeypatch, eventually):
    """The small one does not wait for the large one, whose callers are told to come back."""
    publish(1)
    shutil.copytree(tmp_path / "models" / "adder", tmp_path / "models" / "large")
    gate, replay = threading.Event(), warmup.replay

    def slow(servable, path, iterations):
        if path.parent.name == "large":
            assert gate.wait(60)
        replay(servable, path, iterations)

    monkeypatch.setattr(warmup, "replay", slow)
    lines = []
    server = Server(
        model_source(model_root=tmp_path / "models"),
        ServerOptions(rest_address="127.0.0.1:0"),
        lambda name, version, seconds: lines.append((name, version, seconds >= 0)),
    )
    start = threading.Thread(target=server.start)
    start.start()
    try:
        eventually(lambda: lines == [("adder", 1, True)])
        client = caller(server)
        assert client.predict(1) == (2, 1)
        with pytest.raises(grpc.RpcError) as refusal:
            caller(server).predict(1, model="large")
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "Model large is being loaded" in refusal.value.details()
        health = health_pb2_grpc.HealthStub(grpc.insecure_channel(f"127.0.0.1:{server.port}"))

        def serves(service):
            return health.Check(health_pb2.HealthCheckRequest(service=service)).status

        assert [serves(each) for each in ("adder", "large", "")] == [1, 2, 2]
        gate.set()
        start.join(60)
        assert [serves(each) for each in ("adder", "large", "")] == [1, 1, 1]
        assert caller(server).predict(1, model="large") == (2, 1)
    finally:
        gate.set()
        start.join(60)
        server.stop(1)
