"""Each file of client/examples, run."""

import base64
import http.server
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from .fake_server import MANIFEST, FakeServer, features, jpeg

EXAMPLES = pathlib.Path(__file__).parents[2] / "client" / "examples"


@pytest.fixture
def toy(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """The server that the environment names; it also gives names of classes."""
    server.manifest = MANIFEST | {"labels": {"late": ["ant", "bee", "cat", "dog"]}}
    monkeypatch.setenv("FEATSERVE_SERVER", server.target)
    monkeypatch.setenv("FEATSERVE_MODEL", "toy")
    return server


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> list[str]:
    for seed in range(4):
        (tmp_path / f"{seed}.jpg").write_bytes(jpeg(seed))
    return [str(tmp_path / f"{seed}.jpg") for seed in range(4)]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, EXAMPLES / name, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def test_every_example_is_run_here() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert names == {"curl.sh", "fastapi_app.py", "flask_app.py", "notebook.py", "search.py"}


def test_search(toy: FakeServer, photos: list[str]) -> None:
    lines = run("search.py", str(pathlib.Path(photos[0]).parent), photos[2]).splitlines()
    assert len(lines) == 4 and lines[0] == f"1.000  {photos[2]}"


def test_notebook(toy: FakeServer, photos: list[str]) -> None:
    out = run("notebook.py", *photos)
    assert out.startswith("toy 1 early late\n") and "late (4, 4) float32" in out and "[[1." in out


def test_fastapi_app(toy: FakeServer) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx2")
    from fastapi.testclient import TestClient

    with TestClient(load("fastapi_app").app) as web:
        classes = web.post("/classify", content=jpeg(0)).json()
        scores = features(jpeg(0))["late"]
        assert [each["index"] for each in classes] == np.argsort(-scores, kind="stable").tolist()
        assert web.post("/classify", content=b"no image").status_code == 422


def test_flask_app(toy: FakeServer) -> None:
    pytest.importorskip("flask")
    module = load("flask_app")
    web = module.app.test_client()
    vector = web.post("/vector", data=jpeg(0)).json
    early = features(jpeg(0))["early"].mean(axis=(0, 1))
    np.testing.assert_allclose(vector, early / np.linalg.norm(early), rtol=1e-5)
    assert web.post("/vector", data=b"no image").status_code == 422
    module.client.close()


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl(photos: list[str]) -> None:
    asked: list[tuple[str, Any]] = []

    class Rest(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"predictions": [[1.0]]}')

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rest)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = {"FEATSERVE_REST": f"127.0.0.1:{server.server_port}", "FEATSERVE_MODEL": "toy", "no_proxy": "127.0.0.1"}
    try:
        out = subprocess.run(
            [EXAMPLES / "curl.sh", photos[0]], env=os.environ | names, check=True, capture_output=True, timeout=60
        ).stdout
    finally:
        server.shutdown()
        server.server_close()
    assert json.loads(out) == {"predictions": [[1.0]]}
    ((path, body),) = asked
    assert path == "/v1/models/toy:predict" and body["signature_name"] == "encoded"
    assert base64.b64decode(body["instances"][0]["b64"]) == jpeg(0)
