"""Answers that were not recorded but follow from TensorFlow Serving's sources, the same for every server.

Codes are the contract, and so are the texts that name what the caller got wrong. `None` stands for a text that each
server words in its own way.

Reference: tensorflow_serving/model_servers/{http_rest_api_util,http_server,server_core,grpc_status_util}.cc,
servables/tensorflow/{predict_impl,predict_util,classifier,regressor,multi_inference}.cc, util/json_tensor.cc,
tensorflow/cc/saved_model/util.cc, rapidjson/reader.h (1.1.0).
"""

import http.client
import json
import math

import grpc
import pytest

X = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": 3}]}}
FLOATS = {"x": {**X, "float_val": [1, 2, 3]}}
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def tiny(**spec):
    return {"model_spec": {"name": "tiny", **spec}}


def task(method, name="tiny", signature=""):
    return {"model_spec": {"name": name, "signature_name": signature}, "method_name": method}


def entry(**fields):
    return {
        "name": "tiny",
        "base_path": "/models/tiny",
        "model_platform": "tensorflow",
        "model_version_policy": {"all": {}},
        **fields,
    }


def models(*entries):
    return {"config": {"model_config_list": {"config": entries}}}


REFUSED = [
    ("Predict", {"inputs": FLOATS}, "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("Classify", {}, "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("Regress", {}, "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("GetModelMetadata", {}, "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("GetModelStatus", {}, "INVALID_ARGUMENT", "Missing ModelSpec"),
    (
        "Predict",
        {**tiny(version_label="stable", name="nope"), "inputs": FLOATS},
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: stable",
    ),
    (
        "Predict",
        {**tiny(), "inputs": {"y": X}},
        "INVALID_ARGUMENT",
        "Signature input alias: x(feed name: ",
    ),
    (
        "Predict",
        {**tiny(), "inputs": {"x": X, "y": X}},
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({x,y}) != len({x}). Sent extra: {y}. Missing but required: {}.",
    ),
    (
        "Predict",
        {**tiny(), "inputs": {"x": {**X, "dtype": "DT_DOUBLE"}}},
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but double is provided",
    ),
    (
        "Predict",
        {**tiny(), "inputs": {"x": {**X, "dtype": "DT_INVALID"}}},
        "INVALID_ARGUMENT",
        "tensor parsing error: x",
    ),
    (
        "Predict",
        tiny(signature_name="__saved_model_init_op"),
        "OUT_OF_RANGE",
        "Node 'NoOp' (type: 'NoOp', num of outputs: 0) does not have output 0",
    ),
    ("Classify", tiny(signature_name="nope"), "INVALID_ARGUMENT", None),
    ("Classify", tiny(signature_name="__saved_model_init_op"), "INVALID_ARGUMENT", None),
    ("Classify", tiny(signature_name="two"), "INVALID_ARGUMENT", None),
    ("Regress", tiny(signature_name="two"), "INVALID_ARGUMENT", None),
    ("Regress", tiny(version=9), "NOT_FOUND", "Servable not found for request: Specific(tiny, 9)"),
    ("MultiInference", {"tasks": [{}]}, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    (
        "MultiInference",
        {"tasks": [task(CLASSIFY, "nope")]},
        "NOT_FOUND",
        "Servable not found for request: Latest(nope)",
    ),
    (
        "MultiInference",
        {"tasks": [task(CLASSIFY)]},
        "INVALID_ARGUMENT",
        None,
    ),
    ("MultiInference", {"tasks": [task(REGRESS, signature="two")]}, "INVALID_ARGUMENT", None),
    (
        "MultiInference",
        {"tasks": [task(CLASSIFY, signature="nope")]},
        "INVALID_ARGUMENT",
        None,
    ),
    (
        "MultiInference",
        {"tasks": [task("tensorflow/serving/predict")]},
        "UNIMPLEMENTED",
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    (
        "HandleReloadConfigRequest",
        models(entry(), entry()),
        "INVALID_ARGUMENT",
        "Illegal to list model tiny multiple times in config list",
    ),
    (
        "HandleReloadConfigRequest",
        models(entry(base_path="models/tiny")),
        "INVALID_ARGUMENT",
        "Expected model tiny to have an absolute path or URI; got base_path()=models/tiny",
    ),
    (
        "HandleReloadConfigRequest",
        models(entry(model_platform="")),
        "INVALID_ARGUMENT",
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
        "model name is tiny",
    ),
    (
        "HandleReloadConfigRequest",
        models(entry(model_type="TENSORFLOW")),
        "INVALID_ARGUMENT",
        "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
        "model name is tiny",
    ),
    (
        "HandleReloadConfigRequest",
        models(entry(model_platform="", model_type="OTHER")),
        "INVALID_ARGUMENT",
        "ModelServerConfig::model_type choice 2 not supported.",
    ),
    (
        "HandleReloadConfigRequest",
        models(entry(model_platform="torch")),
        "INVALID_ARGUMENT",
        "Illegal to change a model's platform. For model tiny platform was tensorflow and new platform requested is "
        "torch",
    ),
    (
        "HandleReloadConfigRequest",
        models(entry(), entry(name="other", model_platform="torch")),
        "INVALID_ARGUMENT",
        "Model other requests unsupported platform torch",
    ),
    (
        "HandleReloadConfigRequest",
        {"config": {"custom_model_config": {}}},
        "INVALID_ARGUMENT",
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
        "supported",
    ),
]


@pytest.mark.parametrize(("rpc", "request_", "code", "text"), REFUSED, ids=lambda value: str(value)[:40])
def test_refusal(servers, call, rpc, request_, code, text):
    with pytest.raises(grpc.RpcError) as refusal:
        call(servers[0], {"rpc": rpc, "request": request_}, servers[2])
    assert refusal.value.code().name == code
    if text is not None:
        assert refusal.value.details().startswith(text)
        assert text.endswith((": ", " ")) or refusal.value.details() == text


def test_a_long_text_is_cut(servers, call):
    with pytest.raises(grpc.RpcError) as refusal:
        call(servers[0], {"rpc": "Predict", "request": tiny(version_label="x" * 3000)}, servers[2])
    text = "Unrecognized servable version label: "
    assert refusal.value.details() == text + "x" * (1024 - len(text)) + "...TRUNCATED"


def test_reload_tells_of_the_metrics_asked_for(servers, call):
    names = ["/made/up", "/made/up", "/another"]
    labels = {"version_labels": {"stable": 1, "canary": 2}}
    request = {**models(entry(**labels)), "metric_names": names}
    response = call(servers[0], {"rpc": "HandleReloadConfigRequest", "request": request}, servers[2])
    assert sorted((metric.name, metric.int64_value_increase) for metric in response.metric) == [
        ("/another", 0),
        ("/made/up", 0),
    ]


PREDICT = "/v1/models/tiny:predict"
REST = [
    ("POST", "/v1/models/tiny:PREDICT", "{}", 400, "Malformed request: POST /v1/models/tiny:PREDICT"),
    ("POST", "/v1/models/tiny", "{}", 400, "Malformed request: POST /v1/models/tiny"),
    ("PUT", PREDICT, "{}", 400, f"Malformed request: PUT {PREDICT}"),
    ("DELETE", PREDICT, None, 400, f"Malformed request: DELETE {PREDICT}"),
    ("PATCH", PREDICT, "{}", 400, f"Malformed request: PATCH {PREDICT}"),
    ("GET", "/v1/models", None, 400, "Missing model name in request."),
    ("GET", "/v1/models/tiny?a=b", None, 404, "Could not find any versions of model tiny?a=b"),
    ("GET", "/v1/models/tiny/versions/9", None, 404, "Could not find version 9 of model tiny"),
    ("GET", "/v1/models/tiny/versions/x", None, 400, "Malformed request: GET /v1/models/tiny/versions/x"),
    ("GET", "/v1/models/nope/metadata", None, 404, "Servable not found for request: Latest(nope)"),
    ("GET", "/v1/models/tiny/labels/nope/metadata", None, 400, "Unrecognized servable version label: nope"),
    (
        "POST",
        "/v1/models/tiny/versions/9:predict",
        '{"instances": [1]}',
        404,
        "Servable not found for request: Specific(tiny, 9)",
    ),
    (
        "POST",
        PREDICT,
        '{"instances": [1, 2',
        400,
        None,
    ),
    (
        "POST",
        PREDICT,
        '{"instances": [1, 2]',
        400,
        None,
    ),
    ("POST", PREDICT, "[1]", 400, None),
    ("POST", PREDICT, "{}", 400, "Missing 'inputs' or 'instances' key"),
    (
        "POST",
        PREDICT,
        '{"instances": []}',
        400,
        None,
    ),
    (
        "POST",
        PREDICT,
        '{"instances": [1], "inputs": [1]}',
        400,
        None,
    ),
    (
        "POST",
        PREDICT,
        '{"instances": [[1, 2], [3]]}',
        400,
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: "
        "1",
    ),
    (
        "POST",
        PREDICT,
        '{"instances": [{"x": 1, "y": 2}]}',
        400,
        "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have "
        "named input: y",
    ),
    ("POST", PREDICT, '{"inputs": {"y": [1]}}', 400, "Missing named input: x in 'inputs' object."),
    (
        "POST",
        PREDICT,
        '{"signature_name": "channel_mean", "inputs": [[[[1.5, 2, 3]]]]}',
        400,
        "JSON Value: 1.5 Type: Number is not of expected type: uint8",
    ),
    (
        "POST",
        PREDICT,
        '{"signature_name": "channel_mean", "inputs": [[[[1e20, 2, 3]]]]}',
        400,
        None,
    ),
    (
        "POST",
        PREDICT,
        '{"signature_name": "length", "instances": ["\\u001f", 5]}',
        400,
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: 5 Type: Number is not "
        "of expected type: string",
    ),
    ("POST", PREDICT, '{"signature_name": "length", "inputs": {"b64": "*"}}', 400, "Unable to base64 decode"),
    (
        "POST",
        "/v1/models/tiny:classify",
        "{}",
        400,
        None,
    ),
    (
        "POST",
        "/v1/models/tiny:regress",
        '{"examples": [{"a": null}]}',
        400,
        None,
    ),
    (
        "POST",
        "/v1/models/tiny:regress",
        '{"examples": [{"a": [1, 1.5]}]}',
        400,
        None,
    ),
    (
        "POST",
        "/v1/models/tiny:regress",
        '{"signature_name": "two", "examples": [{"a": 1}]}',
        400,
        None,
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "text"), REST, ids=lambda value: str(value)[:40])
def test_rest_refusal(servers, method, path, body, status, text):
    received, answer = rest(servers[1], method, path, body)
    assert received == status and answer.keys() == {"error"}
    assert answer["error"] == text if text is not None else answer["error"]


def test_a_version_of_more_digits_than_a_version_has_gets_an_empty_body(servers):
    connection = http.client.HTTPConnection(servers[1], timeout=60)
    try:
        connection.request("GET", "/v1/models/tiny/versions/99999999999999999999")
        response = connection.getresponse()
        assert (response.status, response.read()) == (400, b"")
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('{"inputs": []}', {"outputs": []}),
        ('{"inputs": 1}', {"outputs": 2.5 + 1.0}),
        ('{"inputs": {"x": [1e300]}}', {"outputs": [math.inf]}),
        ('{"instances": [-Inf]}', {"predictions": [-math.inf]}),
        ('{"instances": [1], "instances": [3]} and more', {"predictions": [3.5]}),
        ('{"signature_name": "length", "instances": ["\\u00e9", {"b64": "//8"}]}', {"predictions": [2, 2]}),
    ],
)
def test_rest_answer(servers, body, answer):
    assert rest(servers[1], "POST", PREDICT, body) == (200, answer)


def rest(address, method, path, body):
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body=None if body is None else body.encode())
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    return response.status, json.loads(text)
