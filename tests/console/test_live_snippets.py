"""The code that the page gives to copy, run as it stands against the embedded server that shows the page."""

import json
import shutil
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

pytest.importorskip("tensorflow")
from featserve_serving import create_server
from featserve_serving.net.tls import from_pem_files

from ..client.fake_server import jpeg
from ..photo_model import save_photo_model

NODE_PACKAGES = ("@grpc/grpc-js", "protobufjs")
GRID = (1, 4, 4, 3)


@pytest.fixture(scope="module", params=["plain", "tls"])
def code(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """What the page gives to copy, by name, and a folder that has the files which it names."""
    folder, root = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("models")
    save_photo_model(root / "photos")
    (folder / "cat.jpg").write_bytes(jpeg(0, (64, 48)))
    config = context = None
    if request.param == "tls":
        config, context = _certificates(folder)
    with create_server(model_root=root, rest_address="127.0.0.1:0", ssl_config_file=config) as server:
        query = urllib.parse.urlencode({"name": "photos", "layer": "grid"})
        url = f"{'https' if config else 'http'}://localhost:{server.rest_port}/console/api/snippets?{query}"
        with urllib.request.urlopen(url, context=context) as answer:
            yield {each["name"]: each["code"] for each in json.loads(answer.read())}, folder


def _certificates(folder: Path) -> tuple[Path, ssl.SSLContext]:
    authority = trustme.CA()
    own = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    own.private_key_pem.write_to_path(folder / "server.key")
    own.cert_chain_pems[0].write_to_path(folder / "server.pem")
    config = folder / "ssl.config"
    config.write_text(from_pem_files(folder / "server.pem", folder / "server.key", None))
    return config, ssl.create_default_context(cafile=str(folder / "ca.pem"))


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH")


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["Python", "Python, async"])
def test_python(code: tuple[Any, Path], name: str) -> None:
    assert run(code[1], sys.executable, "-c", code[0][name]) == f"{GRID}\n"


def test_curl(code: tuple[Any, Path]) -> None:
    needs("curl")
    (row,) = json.loads(run(code[1], "sh", "-c", code[0]["curl"]))["predictions"]
    assert (len(row["grid"]), len(row["grid"][0]), len(row["grid"][0][0])) == GRID[1:]


def test_grpcurl(code: tuple[Any, Path]) -> None:
    needs("grpcurl")
    answer = json.loads(run(code[1], "sh", "-c", code[0]["grpcurl"]))
    assert list(answer["outputs"]) == ["grid"]
    # Which of the two spellings of a field is printed depends on grpcurl's version.
    grid = {key.replace("_", "").lower(): value for key, value in answer["outputs"]["grid"].items()}
    assert [int(dim["size"]) for dim in grid["tensorshape"]["dim"]] == list(GRID)
    assert len(grid["floatval"]) == 48


@pytest.mark.browser
def test_node(code: tuple[Any, Path]) -> None:
    needs("node", "npm")
    if not (code[1] / "node_modules").is_dir():
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(code[1]), *NODE_PACKAGES]
        if subprocess.run(command, capture_output=True, timeout=300, check=False).returncode:
            pytest.skip(f"npm cannot install {' '.join(NODE_PACKAGES)}")
    assert run(code[1], "node", "-e", code[0]["Node"]) == "[ 1, 4, 4, 3 ]\n"
