"""Which signature answers, how requests are cut, and answers that are wrong."""

import numpy as np
import pytest
from featserve_client import (
    ConfigError,
    FeatureClient,
    InvalidRequest,
    Limits,
    ModelNotFound,
    ResponseError,
)
from featserve_client.wire import serving_pb2 as wire

from ..fake_server import FakeServer, features, jpeg


def test_one_layer_uses_its_own_signature(client: FeatureClient, server: FakeServer) -> None:
    assert list(client.extract(jpeg(0), layers="late")) == ["late"]
    assert list(client.extract(jpeg(0), layers=["late", "late"])) == ["late"]
    assert [request.model_spec.signature_name for request in server.predicts] == ["encoded/late"] * 2


def test_some_layers_use_the_output_filter(client: FeatureClient, server: FakeServer) -> None:
    for name in list(server.signatures.signature_def):
        if "/" in name:
            del server.signatures.signature_def[name]
    assert list(client.extract(jpeg(0), layers=["late"])) == ["late"]
    assert server.predicts[-1].model_spec.signature_name == "encoded"
    assert list(server.predicts[-1].output_filter) == ["late"]


def test_layers_in_the_order_asked_for(client: FeatureClient) -> None:
    assert list(client.extract(jpeg(0), layers=["late", "early"])) == ["late", "early"]


def test_requests_are_cut_by_number_and_bytes(server: FakeServer) -> None:
    data = [jpeg(seed) for seed in range(7)]
    with FeatureClient(server.target, model="toy", limits=Limits(max_request_images=3)) as client:
        rows = client.extract(data)["late"]
    assert sorted(len(next(iter(r.inputs.values())).string_val) for r in server.predicts) == [1, 3, 3]
    np.testing.assert_array_equal(rows, np.stack([features(item)["late"] for item in data]))
    server.predicts.clear()
    with FeatureClient(server.target, model="toy", limits=Limits(max_request_bytes=2 * max(map(len, data)))) as client:
        np.testing.assert_array_equal(client.extract(data)["late"], rows)
    assert len(server.predicts) == 4
    server.predicts.clear()
    # One row of both layers is 12 + 4 floats.
    with FeatureClient(server.target, model="toy", limits=Limits(max_response_bytes=2 * 64)) as client:
        np.testing.assert_array_equal(client.extract(data)["late"], rows)
    assert len(server.predicts) == 4


def test_nothing_to_do(client: FeatureClient) -> None:
    with pytest.raises(ConfigError, match="no images"):
        client.extract([])
    with pytest.raises(ConfigError, match="layers"):
        client.extract(jpeg(0), layers=[])


def test_what_the_server_lacks(client: FeatureClient, server: FakeServer) -> None:
    with pytest.raises(InvalidRequest, match="no layer 'middle'; it has early, late"):
        client.extract(jpeg(0), layers=["middle"])
    with pytest.raises(
        InvalidRequest, match=r"no signature 'nope'; it has .*float_images\(images: float32 \(N, 8, 8, 3\)"
    ):
        client.predict({"x": [1.0]}, signature="nope")
    with pytest.raises(InvalidRequest, match=r"shape \(4, 4, 3\).*float32 \(N, 8, 8, 3\)"):
        client.extract(np.zeros((4, 4, 3), np.float32))
    with (
        pytest.raises(ModelNotFound, match="model 'other' at localhost:"),
        FeatureClient(server.target, model="other") as other,
    ):
        other.extract(jpeg(0))


def test_signatures_are_asked_for_once_and_again_when_the_version_changes(
    client: FeatureClient, server: FakeServer
) -> None:
    client.extract(jpeg(0))
    client.extract(jpeg(1))
    assert server.metadata_calls == 1
    server.version = 2
    client.extract(jpeg(0))
    client.extract(jpeg(0))
    assert server.metadata_calls == 2


def test_signatures_that_are_gone_are_noticed(client: FeatureClient, server: FakeServer) -> None:
    client.extract(jpeg(0), layers="late")
    server.version = 2
    for name in list(server.signatures.signature_def):
        if "/" in name:
            del server.signatures.signature_def[name]
    assert client.extract(jpeg(0), layers="late")["late"].shape == (1, 4)


def test_one_result_is_of_one_version(server: FakeServer) -> None:
    def upgrade(request: wire.PredictRequest, count: int) -> None:
        server.version = 1 if count < 2 else 2

    server.before = upgrade
    with FeatureClient(server.target, model="toy", limits=Limits(max_request_images=1), concurrency=1) as client:
        client.extract([jpeg(0), jpeg(1), jpeg(2)])
    assert len(server.predicts) == 6


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"\xff\xff\xff", "cannot be read"),
        (wire.PredictResponse().SerializeToString(), "lacks layer 'early'; it has nothing"),
    ],
)
def test_answers_that_are_none(client: FeatureClient, server: FakeServer, answer: bytes, text: str) -> None:
    server.before = lambda request, count: answer
    with pytest.raises(ResponseError, match=text):
        client.extract(jpeg(0))


def test_answers_of_another_dtype_or_number_of_rows(client: FeatureClient, server: FakeServer) -> None:
    answer = wire.PredictResponse()
    for layer in ("early", "late"):
        answer.outputs[layer].dtype = wire.DT_DOUBLE
        answer.outputs[layer].tensor_shape.dim.add(size=1)
        answer.outputs[layer].double_val.append(1)
    server.before = lambda request, count: answer.SerializeToString()
    with pytest.raises(ResponseError, match="float64; expected float32"):
        client.extract(jpeg(0))
    for layer in ("early", "late"):
        answer.outputs[layer].dtype = wire.DT_FLOAT
        answer.outputs[layer].float_val.append(1)
    with pytest.raises(ResponseError, match=r"shape \(1,\); expected 2 rows"):
        client.extract([jpeg(0), jpeg(1)])
