"""The code that the page gives to copy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from featserve_console import Address, Description, Signature, Tensor
from featserve_console.snippets import snippets

from ..client.fake_server import FakeServer, jpeg

FILES = Signature(
    inputs={"image_bytes": Tensor(dtype="string", shape=(None,))},
    outputs={"early": Tensor(dtype="float32", shape=(None, 2, 2, 3)), "late": Tensor(dtype="float32", shape=(None, 4))},
)
MODEL = Description(version=1, signatures={"encoded": FILES})


def code_for(address: Address, model: str = "toy") -> dict[str, str]:
    return {each["name"]: each["code"] for each in snippets(model, MODEL, "early", address)}


@pytest.mark.parametrize("name", ["Python", "Python, async"])
def test_python_runs_as_it_is_shown(server: FakeServer, tmp_path: Path, name: str) -> None:
    (tmp_path / "cat.jpg").write_bytes(jpeg(0))
    code = code_for(Address(grpc=server.target))[name]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout == "(1, 2, 2, 3)\n"


def test_curl_sends_what_it_shows(tmp_path: Path) -> None:
    """A curl of the test takes the place of the real one, and keeps what it was given."""
    (tmp_path / "cat.jpg").write_bytes(b"bytes")
    (tmp_path / "curl").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "curl").chmod(0o755)
    code = code_for(Address(grpc="h:1", rest="http://h:2"), "toy's")["curl"]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip().endswith("http://h:2/v1/models/toy's:predict")
    request = json.loads((tmp_path / "request.json").read_text())
    assert request == {"signature_name": "encoded", "instances": [{"b64": "Ynl0ZXM="}]}


def test_without_a_rest_api_curl_says_so() -> None:
    assert "--rest HOST:PORT" in code_for(Address(grpc="h:1"))["curl"]


def test_under_tls_each_snippet_names_the_authority() -> None:
    code = code_for(Address(grpc="h:1", rest="https://h:2", tls=True, mutual_tls=True))
    assert all("ca.pem" in each and "client.pem" in each for each in code.values())
    for name in ("Python", "Python, async"):
        compile(code[name], name, "exec")
