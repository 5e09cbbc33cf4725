"""The READMEs: what they say of commands, files and code is true, and their Python runs."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import httpx2 as httpx
import numpy as np
import pyarrow.parquet
import pytest
import skimage
import zarr
from featserve_client import FeatureClient
from featserve_client.bulk.job import extract_files
from featserve_export import ExportOptions, export_backbone
from featserve_serving import create_server

from . import readme

PHOTOS = Path(skimage.__file__).parent / "data"
LAYER = "top_activation"


@pytest.mark.parametrize("document", readme.DOCUMENTS)
@pytest.mark.parametrize("check", readme.CHECKS, ids=lambda check: check.__name__)
def test_a_document_is_true(check: Callable[[str], Iterator[str]], document: str) -> None:
    assert list(check(document)) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```console\n$ featserve --help\nusage: other\n```", "featserve --help prints something else"),
        ("[a](none.md)", "none.md links to a file"),
        ("# One\n\n[a](#two)", "#two links to a heading"),
        ("```python\nif:\n```", "does not compile"),
        ("`make nothing`", "make nothing: the Makefile"),
        ("```sh\nmake lint tset\n```", "make tset: the Makefile"),
        ("`make tune NO_KNOB=1`", "make NO_KNOB: the Makefile"),
        ("`featserve extract photos --no-flag`", "featserve extract: there is no --no-flag"),
        ("```console\n$ featserve-serve --model-rot x\n```", "there is no --model-rot"),
        ("    featserve-export vgg16 --layer x", "there is no --layer"),
    ],
)
def test_what_is_untrue_is_found(tmp_path: Path, text: str, problem: str) -> None:
    document = tmp_path / "x.md"
    document.write_text(f"{text}\n", encoding="utf-8")
    (found,) = [found for check in readme.CHECKS for found in check(str(document))]
    assert problem in found


def test_every_readme_is_checked() -> None:
    there = {
        str(path.relative_to(readme.ROOT))
        for part in ("client", "export", "serving", "tests")
        for path in (readme.ROOT / part).rglob("*.md")
    }
    assert there <= set(readme.DOCUMENTS)


def test_the_first_readme_is_a_page() -> None:
    assert len(readme.read("README.md").splitlines()) <= 200


def test_no_knob_or_target_of_the_makefile_is_undocumented() -> None:
    text = subprocess.run(["make", "help"], cwd=readme.ROOT, capture_output=True, text=True, check=True).stdout
    makefile = readme.read("Makefile")
    named = re.findall(r"^([A-Z_]+) \?=|^([a-z][a-z-]*):", makefile, re.MULTILINE)
    for name in {knob or target for knob, target in named} - {"PYTHON"}:
        assert re.search(rf"^  {name}\b", text, re.MULTILINE), name


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """A server of the default export; the value is a function that puts its ports and its folder into a text."""
    root = tmp_path_factory.mktemp("models")
    export_backbone(ExportOptions("efficientnet_lite0", model_root=root))
    with create_server(model_root=root, address="127.0.0.1:0", rest_address="127.0.0.1:0") as server:
        places = {
            "localhost:8500": f"127.0.0.1:{server.port}",
            "localhost:8501": f"127.0.0.1:{server.rest_port}",
            "build/models": str(root),
        }
        yield lambda text: re.sub("|".join(places), lambda found: places[found[0]], text)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the photos that the examples name."""
    shutil.copy(PHOTOS / "rocket.jpg", tmp_path / "cat.jpg")
    shutil.copy(PHOTOS / "coffee.png", tmp_path / "dog.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(document: str, mended: Callable[[str], str] = str) -> dict:
    """Runs the Python of a document, block after block."""
    namespace: dict = {"__name__": "__main__"}
    for block in readme.blocks(readme.read(document), "python"):
        exec(mended(block), namespace)  # noqa: S102
    return namespace


def test_the_quickstart_runs(served: Callable[[str], str], photos: Path) -> None:
    assert run("README.md", served)["features"][LAYER].shape == (2, 7, 7, 1280)


def test_the_clients_examples_run(
    served: Callable[[str], str], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run("client/README.md", served)
    assert found["features"][LAYER].shape == (2, 7, 7, 1280)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["cat.jpg", "dog.png"]
    expected = found["features"][LAYER][0].mean(axis=(0, 1))
    photo = (photos / "cat.jpg").read_bytes()

    async def ask_fastapi() -> list[httpx.Response]:
        transport = httpx.ASGITransport(found["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as web:
            answers = [await web.post("/features", content=body) for body in (photo, b"no image")]
        await found["service"].close()
        return answers

    good, bad = asyncio.run(ask_fastapi())
    np.testing.assert_allclose(good.json(), expected, rtol=1e-4, atol=1e-5)
    assert bad.status_code == 400
    web = found["flask_app"].test_client()
    np.testing.assert_allclose(web.post("/features", data=photo).get_json(), expected, rtol=1e-4, atol=1e-5)
    assert web.post("/features", data=b"no image").status_code == 400
    found["blocking"].close()
    found["client"].close()


def test_each_output_is_read_as_the_table_says(served: Callable[[str], str], photos: Path) -> None:
    table = readme.read("client/README.md").split("## Output files", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `(\.\w+)` \| `([^`]+)` \| (.*?) \|", table, re.MULTILINE)
    assert len(rows) == 5
    paths = [str(photos / name) for name in ("cat.jpg", "dog.png")]
    with FeatureClient(served("localhost:8500"), model="efficientnet_lite0") as client:
        expected = client.extract(paths)[LAYER]
        for suffix, code, how in rows:
            extract_files(client, paths, Path(f"features{suffix}"), layers=[LAYER])
            found = eval(code, {"numpy": np, "pyarrow": pyarrow, "h5py": h5py, "zarr": zarr})  # noqa: S307
            if reading := re.search(r"`column(\.[^`]+)`", how):
                found = eval(f"column{reading[1]}", {"column": found})  # noqa: S307
            np.testing.assert_allclose(found[:], expected, rtol=1e-4, atol=1e-5)


def test_the_curl_example_runs(served: Callable[[str], str], photos: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on PATH")
    (code,) = [block for block in readme.blocks(readme.read("serving/README.md"), "sh") if "curl" in block]
    subprocess.run(["bash", "-ec", served(code)], check=True)
    answer = json.loads((photos / "answer.json").read_bytes())
    assert np.shape(answer["predictions"]) == (1, 7, 7, 1280)


def test_the_exporters_and_the_servers_examples_run(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run("export/README.md")["report"]
    assert report.path.resolve() == photos / "models/mobilenet/1"
    run("serving/README.md")
    assert capsys.readouterr().out.endswith("{'mobilenet': [1]}\n")
