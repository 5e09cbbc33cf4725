"""The console on the REST port of the embedded server."""

import base64
import json
import socket
import ssl
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import trustme
from featserve_client import FeatureClient
from featserve_serving import create_server
from featserve_serving.launch.cli import main

from ...client.fake_server import jpeg
from ...photo_model import save_photo_model
from ...waiting import eventually


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        save_photo_model(root / "photos", version)
    return root


@pytest.fixture(scope="module")
def server(root):
    with create_server(model_root=root, rest_address="127.0.0.1:0", console_hosts=["models.example"]) as server:
        yield server


def ask(server, path, body=None, context=None, **headers):
    """Returns status, headers and body."""
    url = f"{'https' if context else 'http'}://127.0.0.1:{server.rest_port}{path}"
    request = urllib.request.Request(url, body, {key.replace("_", "-"): value for key, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers, refusal.read()


def api(server, path, body=None, **headers):
    status, _, answer = ask(server, f"/console/api/{path}", body, **headers)
    return status, json.loads(answer)


def test_the_page_is_at_the_root_and_the_api_where_it_was(server):
    status, headers, page = ask(server, "/")
    assert status == 200 and b"featserve" in page
    assert "default-src 'none'" in headers["content-security-policy"]
    assert ask(server, "/console/console.js")[0] == 200
    assert ask(server, "/v1/models/photos")[0] == 200
    assert ask(server, "/monitoring/prometheus/metrics")[0] == 200
    assert ask(server, "/v1/models/photos")[1]["content-security-policy"] is None
    assert b"<H1>Not Found</H1>" in ask(server, "/elsewhere")[2]


def test_it_can_be_turned_off(root):
    with create_server(model_root=root, rest_address="127.0.0.1:0", enable_console=False) as server:
        for path in ("/", "/console/console.js", "/console/api/now"):
            status, _, page = ask(server, path)
            assert status == 404 and b"<H1>Not Found</H1>" in page
        assert ask(server, "/v1/models/photos")[0] == 200


def test_versions_have_states_labels_and_when(server):
    now = api(server, "now")[1]
    (model,) = now["models"]
    assert [(each["version"], each["state"], each["labels"]) for each in model["versions"]] == [
        (2, "AVAILABLE", ["canary"]),
        (1, "AVAILABLE", ["stable"]),
    ]
    assert all(0 <= time.time() - each["since"] < 600 and each["seen"] is None for each in model["versions"])
    assert now["server"] == f"127.0.0.1:{server.port}"


def test_the_client_learns_labels_and_when(server):
    with FeatureClient(f"127.0.0.1:{server.port}", model="photos") as client:
        one, two = client.status()
    assert (one.labels, two.labels) == (("stable",), ("canary",))
    versions = api(server, "now")[1]["models"][0]["versions"]
    assert [two.since, one.since] == [each["since"] for each in versions]


def test_a_photo_is_looked_at_and_counted(server):
    eventually(lambda: api(server, "now")[1]["figures"] is not None)
    status, found = api(server, "look?name=photos&version=2", jpeg(1))
    assert status == 200, found
    assert found["version"] == 2 and found["layer"] == "grid"
    assert {each["label"] for each in found["classes"]["top"]} == {"red", "green", "blue"}
    assert found["ms"]["model"] > 0 and found["ms"]["waiting for a thread"] >= 0
    page = ask(server, "/monitoring/prometheus/metrics")[2].decode()
    assert ':tensorflow:serving:request_count{model_name="photos",status="OK"}' in page
    counted = 'featserve_requests_total{entrypoint="REST",method="predict",model="photos",signature="encoded"'
    assert counted in page


def test_the_figures_are_the_servers(server):
    api(server, "now")
    time.sleep(2)
    for seed in range(4):
        assert api(server, "look?name=photos", jpeg(seed))[0] == 200
    (*_, point) = api(server, "now")[1]["figures"]
    assert point["models"]["photos"]["per_s"] > 0 and point["models"]["photos"]["p50_ms"] > 0
    assert (point["running"], point["waiting"]) == (0, 0)


def test_the_model_is_described_with_its_manifest(server):
    status, model = api(server, "model?name=photos")
    assert status == 200 and model["version"] == 2 and model["has_manifest"]
    assert ["backbone", "thumbnail"] in model["facts"]
    assert [(layer["name"], layer["shape"]) for layer in model["layers"]] == [("grid", [4, 4, 3]), ("scores", [3])]


def test_the_snippets_have_the_servers_ports(server):
    python = api(server, "snippets?name=photos", Host=f"localhost:{server.rest_port}")[1]
    code = {each["name"]: each["code"] for each in python}
    assert f'"localhost:{server.port}"' in code["Python"]
    assert f"http://localhost:{server.rest_port}/v1/models/photos:predict" in code["curl"]


def test_a_broken_photo_has_the_servers_sentence(server):
    status, refusal = api(server, "look?name=photos", b"\xff\xd8\xff")
    assert status == 400 and "JPEG" in refusal["error"] and "Traceback" not in refusal["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"},
        {"Origin": "http://elsewhere.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_pages_from_elsewhere_are_refused(server, headers):
    before = _predicted(server)
    status, refusal = api(server, "look?name=photos", jpeg(0), **headers)
    assert status == 403 and "does not answer to" in refusal["error"]
    assert _predicted(server) == before


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "models.example", socket.gethostname()])
def test_its_own_names_are_answered(server, host):
    assert ask(server, "/", Host=f"{host}:{server.rest_port}")[0] == 200


def test_a_full_server_refuses_the_console_too(root, monkeypatch):
    with create_server(model_root=root, rest_address="127.0.0.1:0") as server:
        monkeypatch.setattr(type(server._pools.compute), "full", property(lambda _: True))
        status, refusal = api(server, "look?name=photos", jpeg(0))
    assert (status, refusal) == (429, {"error": "The server is at its limit of requests."})


def test_metrics_that_are_off_stay_off(root, tmp_path):
    config = tmp_path / "monitoring.config"
    config.write_text("prometheus_config { enable: false }")
    with create_server(model_root=root, rest_address="127.0.0.1:0", monitoring_config_file=config) as server:
        now = api(server, "now")[1]
    assert now["figures"] is None and "--monitoring_config_file" in now["figures_error"]
    assert now["error"] is None and now["models"]


def test_under_tls_the_page_has_tls(root, tmp_path, capsys):
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1", "localhost")
    for name, pem in (("ca.pem", authority.cert_pem), ("key", own.private_key_pem), ("cert", own.cert_chain_pems[0])):
        pem.write_to_path(tmp_path / name)
    assert main(["ssl-config", "--cert", str(tmp_path / "cert"), "--key", str(tmp_path / "key")]) == 0
    (tmp_path / "ssl.config").write_text(capsys.readouterr().out)
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with create_server(model_root=root, rest_address="127.0.0.1:0", ssl_config_file=tmp_path / "ssl.config") as server:
        assert ask(server, "/", context=context)[0] == 200
        with pytest.raises(urllib.error.URLError):
            ask(server, "/", context=ssl.create_default_context())
        snippets = json.loads(ask(server, "/console/api/snippets?name=photos", context=context)[2])
    assert "ca.pem" in snippets[0]["code"]


def test_what_the_page_shows_is_what_the_client_gets(server):
    found = api(server, "look?name=photos&version=1", jpeg(5))[1]
    with FeatureClient(f"127.0.0.1:{server.port}", model="photos", version=1) as client:
        vector = client.embed(jpeg(5), layer="grid")[0]
    unit = np.frombuffer(base64.b64decode(found["vector"]["unit"]), "<f4")
    np.testing.assert_allclose(unit, vector, rtol=1e-5)


def _predicted(server):
    page = ask(server, "/monitoring/prometheus/metrics")[2].decode()
    return [line for line in page.splitlines() if line.startswith("featserve_requests_total")]
