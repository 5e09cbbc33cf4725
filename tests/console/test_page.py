"""What the page answers, over a server of the tests."""

import base64
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from featserve_client.wire import serving_pb2 as wire
from starlette.testclient import TestClient

from ..client.fake_server import FakeServer, Refusal, features, jpeg, signatures
from ..waiting import eventually
from .conftest import NAMES

Page = Callable[..., TestClient]


def look(page: TestClient, photo: bytes, **parameters: Any) -> Any:
    return page.post("/console/api/look", params={"name": "toy", **parameters}, content=photo)


def test_the_page_loads_nothing_from_elsewhere_and_is_small(page: Page) -> None:
    opened = page()
    files = [opened.get(path) for path in ("/", "/console/console.js", "/console/icon.svg")]
    assert [file.status_code for file in files] == [200] * 3
    assert sum(len(file.content) for file in files) < 100_000
    for file in files:
        assert "https://" not in file.text
        policy = file.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert file.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in file.headers
    again = opened.get("/", headers={"if-none-match": files[0].headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["cat", "coffee", "astronaut"])
def test_the_samples_are_photos(page: Page, name: str) -> None:
    answer = page().get(f"/console/samples/{name}.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content.startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize(
    "path", ["/console/../app.py", "/console/%2e%2e/app.py", "/console/samples/..%2f..%2fapp.py", "/etc/passwd", "/x"]
)
def test_a_path_leads_nowhere_else(page: Page, path: str) -> None:
    answer = page().get(path)
    assert answer.status_code == 404
    assert answer.json() == {"error": "there is nothing at this path"}


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "rebound.example"},
        {"host": "rebound.example:8502"},
        {"host": "localhost.example"},
        {"host": ""},
        {"origin": "https://elsewhere.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_pages_from_elsewhere_are_refused(page: Page, server: FakeServer, headers: dict[str, str]) -> None:
    answer = page().post("/console/api/look", params={"name": "toy"}, content=jpeg(0), headers=headers)
    assert answer.status_code == 403
    assert "does not answer to" in answer.json()["error"]
    assert not server.predicts and not server.metadata


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost:8502", "origin": "http://localhost:8502", "sec-fetch-site": "same-origin"},
        {"host": "[::1]:8502", "origin": "http://[::1]:8502"},
        {"host": "console.example", "origin": "https://console.example"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_the_page_itself_is_answered(page: Page, headers: dict[str, str]) -> None:
    assert page().get("/", headers=headers).status_code == 200


def test_what_is_served(page: Page, server: FakeServer) -> None:
    now = page("toy", "absent").get("/console/api/now").json()
    absent, toy = now["models"]
    assert absent == {"name": "absent", "versions": []}
    (version,) = toy["versions"]
    assert (version["version"], version["state"], version["error"]) == (1, "AVAILABLE", "")
    assert version["since"] is None and version["labels"] is None and version["seen"] > 0
    assert (now["server"], now["error"], now["figures"]) == (server.target, None, None)


def test_a_model_is_described(page: Page) -> None:
    model = page().get("/console/api/model", params={"name": "toy"}).json()
    facts = dict(model["facts"])
    assert facts["backbone"] == "drawn" and facts["precision"] == "float32"
    assert facts["input"] == "8 × 8 pixels, bilinear"
    assert facts["closeness to Keras"] == "cosine 0.9999990 or more"
    assert [(layer["name"], layer["shape"], layer["classes"]) for layer in model["layers"]] == [
        ("early", [2, 2, 3], 0),
        ("late", [4], 4),
    ]
    assert model["layer"] == "early" and model["cannot_try"] == "" and model["has_manifest"]


def test_a_photo_gives_labels_maps_and_a_vector(page: Page) -> None:
    photo = jpeg(3)
    expected = features(photo)
    answer = look(page(), photo)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    order = np.argsort(-expected["late"], kind="stable")
    assert [each["label"] for each in found["classes"]["top"]] == [NAMES[index] for index in order]
    maps = found["maps"]
    assert (maps["height"], maps["width"], maps["channels"]) == (2, 2, 3)
    strongest = np.argsort(-(expected["early"] ** 2).mean(axis=(0, 1)), kind="stable")
    assert [each["channel"] for each in maps["maps"]] == [None, *strongest]
    assert all(len(base64.b64decode(each["levels"])) == 4 for each in maps["maps"])
    vector = expected["early"].mean(axis=(0, 1))
    unit = np.frombuffer(base64.b64decode(found["vector"]["unit"]), "<f4")
    np.testing.assert_allclose(unit, vector / np.linalg.norm(vector), rtol=1e-6)
    assert found["vector"]["norm"] == pytest.approx(np.linalg.norm(vector))
    assert found["ms"]["round trip"] > 0


def test_a_broken_photo_has_the_servers_sentence(page: Page) -> None:
    answer = look(page(), b"\xff\xd8\xff broken")
    assert (answer.status_code, answer.json()) == (400, {"error": "the image cannot be decoded"})


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"layer": "none"}, "the model has no layer 'none'; it has early, late"),
        ({"channel": "-1"}, "the parameter 'channel' is '-1'; expected a number from 0"),
        ({"version": "x"}, "the parameter 'version' is 'x'; expected a number from 0"),
        ({"name": ""}, "the parameter 'name' is missing: the model's name"),
    ],
)
def test_a_wrong_parameter_has_a_sentence(page: Page, parameters: dict[str, str], text: str) -> None:
    answer = look(page(), jpeg(0), **parameters)
    assert (answer.status_code, answer.json()) == (400, {"error": text})


def test_uploads_are_bounded(page: Page, server: FakeServer) -> None:
    opened = page(max_message_bytes=(64 << 10) + 1000)
    assert opened.get("/console/api/now").json()["max_upload_bytes"] == 1000
    declared = look(opened, bytes(1001))
    chunked = opened.post("/console/api/look", params={"name": "toy"}, content=iter([bytes(600)] * 2))
    for answer in (declared, chunked):
        assert answer.status_code == 413
        assert "larger than" in answer.json()["error"]
        assert answer.headers["connection"] == "close"
    assert look(opened, b"").json() == {"error": "the file is empty (0 bytes)"}
    assert not server.predicts


def test_a_model_without_a_manifest(page: Page, server: FakeServer) -> None:
    found = signatures()
    del found.signature_def["manifest"]
    server.signatures = found
    opened = page()
    model = opened.get("/console/api/model", params={"name": "toy"}).json()
    assert not model["has_manifest"] and model["cannot_try"] == ""
    assert [layer["name"] for layer in model["layers"]] == ["early", "late"]
    assert look(opened, jpeg(1)).json()["classes"] is None


def test_any_saved_model(page: Page, server: FakeServer) -> None:
    found = signatures()
    for name in list(found.signature_def):
        if not name.startswith("serving_default"):
            del found.signature_def[name]
    server.signatures = found
    opened = page()
    model = opened.get("/console/api/model", params={"name": "toy"}).json()
    assert "was not exported by featserve-export" in model["cannot_try"]
    assert model["signatures"][0]["inputs"] == ["images: uint8 (?, ?, ?, 3)"]
    (snippet,) = opened.get("/console/api/snippets", params={"name": "toy"}).json()
    assert "describe_signatures" in snippet["code"]
    assert look(opened, jpeg(0)).status_code == 400


def test_a_model_that_is_loading(page: Page, server: FakeServer) -> None:
    server.status.state = wire.ModelVersionStatus.LOADING
    opened = page()
    assert opened.get("/console/api/now").json()["models"][0]["versions"][0]["state"] == "LOADING"
    answer = opened.get("/console/api/model", params={"name": "toy", "version": 1})
    assert (answer.status_code, answer.json()) == (
        503,
        {"error": "version 1 of 'toy' does not answer: it is LOADING"},
    )
    server.status.state = wire.ModelVersionStatus.AVAILABLE
    assert opened.get("/console/api/model", params={"name": "toy", "version": 1}).status_code == 200


def test_labels_and_since_when_are_the_servers(page: Page, server: FakeServer) -> None:
    server.status.since, server.status.labels[:] = 86400.0, ["stable"]
    (version,) = page().get("/console/api/now").json()["models"][0]["versions"]
    assert (version["since"], version["seen"], version["labels"]) == (86400.0, None, ["stable"])


def test_no_such_model(page: Page) -> None:
    answer = page("absent").get("/console/api/model", params={"name": "absent"})
    assert (answer.status_code, answer.json()) == (404, {"error": "the server has no model 'absent'"})


def test_an_overloaded_server_is_told_of(page: Page, server: FakeServer) -> None:
    def refuse(request: Any, count: int) -> None:
        if request.model_spec.signature_name != "manifest":
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")

    server.before = refuse
    assert (look(page(), jpeg(0)).status_code, look(page(), jpeg(0)).json()) == (429, {"error": "the queue is full"})


@pytest.mark.long
def test_a_server_that_goes_and_returns(page: Page, server: FakeServer) -> None:
    opened = page()
    assert look(opened, jpeg(0)).status_code == 200
    server.stop()
    now = opened.get("/console/api/now").json()
    assert now["models"] is None and server.target in now["error"]
    assert look(opened, jpeg(0)).status_code == 503
    server.start()
    eventually(lambda: opened.get("/console/api/now").json()["error"] is None)
    assert look(opened, jpeg(0)).status_code == 200
