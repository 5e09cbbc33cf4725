"""The page of the embedded server, in chromium."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from featserve_client import FeatserveError, FeatureClient
from PIL import Image

pytest.importorskip("tensorflow")
from featserve_serving import create_server
from featserve_serving.models.loader import Loader
from featserve_serving.net.tls import from_pem_files

from ..client.fake_server import jpeg
from ..photo_model import save_photo_model
from ..waiting import eventually
from .browser import upload, wait_for_text

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        save_photo_model(root / "photos", version)
    return root


@pytest.fixture(scope="module")
def live(root: Path) -> Iterator[Any]:
    with create_server(model_root=root, rest_address="127.0.0.1:0") as server:
        yield server


IDLE = "() => document.querySelector('#figures li b').textContent === '0.0'"


def url_of(server: Any) -> str:
    return f"http://127.0.0.1:{server.rest_port}"


def figure(tab: Any, title: str) -> float:
    text = tab.locator("#figures li", has_text=title).locator("b").text_content()
    return 0.0 if text == "–" else float(text)


def test_photos_and_what_is_served(open_tab: Callable[..., Any], live: Any) -> None:
    opened = open_tab(url_of(live))
    rows = opened.locator("#versions tr").all_text_contents()
    assert rows[0].startswith("photos2 (canary)AVAILABLE") and rows[1].startswith("photos1 (stable)AVAILABLE")
    assert "seen" not in "".join(rows)
    large = BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(noise).resize((4000, 3000)).save(large, "JPEG")
    upload(opened, ("large.jpg", large.getvalue()), *((f"{number}.jpg", jpeg(number)) for number in range(50)))
    assert opened.locator("#photos .top").count() == 51 and opened.locator("#photos .error").count() == 0
    assert opened.locator("#matrix tbody tr").count() == 51


def test_figures_move_under_load(open_tab: Callable[..., Any], live: Any) -> None:
    opened = open_tab(url_of(live))
    opened.wait_for_selector("#figures li")
    opened.wait_for_function(IDLE, timeout=30_000)
    done = threading.Event()

    def load() -> None:
        with FeatureClient(f"127.0.0.1:{live.port}", model="photos") as client:
            while not done.is_set():
                client.predict({"image_bytes": [jpeg(0)]}, signature="encoded")
                try:
                    client.predict({"image_bytes": [b"broken"]}, signature="encoded")
                except FeatserveError:
                    continue

    thread = threading.Thread(target=load)
    thread.start()
    try:
        opened.wait_for_selector("#figures li.bad", timeout=30_000)
        assert "INVALID_ARGUMENT" in opened.text_content("#figures li.bad")
        assert figure(opened, "requests/s") > figure(opened, "errors/s") > 0
        assert figure(opened, "p99, ms") >= figure(opened, "p50, ms") > 0
    finally:
        done.set()
        thread.join()
    opened.wait_for_selector("#figures li.bad", state="detached", timeout=30_000)
    opened.wait_for_function(IDLE, timeout=30_000)


def test_models_that_are_loading(
    open_tab: Callable[..., Any], root: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    opened, warm = threading.Event(), Loader._warm

    def held(*arguments: Any) -> Any:
        assert opened.wait(120)
        return warm(*arguments)

    monkeypatch.setattr(Loader, "_warm", held)
    port = free_port()
    server = create_server(model_root=root, rest_address=f"127.0.0.1:{port}")
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        eventually(lambda: server.rest_port is not None)
        tab = open_tab(f"http://127.0.0.1:{port}", ready=False)
        tab.wait_for_selector("#health.bad")
        wait_for_text(tab, "versions", "LOADING")
        wait_for_text(tab, "model-note", "version 2 of 'photos' does not answer: it is LOADING")
        opened.set()
        tab.wait_for_selector("#health.good", timeout=60_000)
        upload(tab, ("one.jpg", jpeg(0)))
        assert tab.locator("#photos .top").count() == 1
    finally:
        opened.set()
        starting.join()
        server.stop()


def test_a_server_that_goes_and_returns(open_tab: Callable[..., Any], root: Path, free_port: Callable[[], int]) -> None:
    address = f"127.0.0.1:{free_port()}"
    with create_server(model_root=root, rest_address=address):
        opened = open_tab(f"http://{address}")
        upload(opened, ("one.jpg", jpeg(0)))
    wait_for_text(opened, "health", "the console does not answer")
    with create_server(model_root=root, rest_address=address):
        opened.wait_for_selector("#health.good", timeout=60_000)
        upload(opened, ("two.jpg", jpeg(1)))
        assert opened.locator("#photos .top").count() == 2


def test_tls(open_tab: Callable[..., Any], root: Path, tmp_path: Path) -> None:
    own = trustme.CA().issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(tmp_path / "key")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    config = tmp_path / "ssl.config"
    config.write_text(from_pem_files(tmp_path / "cert", tmp_path / "key", None))
    with create_server(model_root=root, rest_address="127.0.0.1:0", ssl_config_file=config) as server:
        opened = open_tab(f"https://127.0.0.1:{server.rest_port}", ignore_https_errors=True)
        upload(opened, ("one.jpg", jpeg(0)))
        assert opened.locator("#photos .top").count() == 1
        wait_for_text(opened, "code", 'TLS(ca="ca.pem")')


def test_the_command_shows_another_server(open_tab: Callable[..., Any], live: Any) -> None:
    target = f"127.0.0.1:{live.port}"
    command = [sys.executable, "-m", "featserve_client.cli", "console", "--server", target, "--port", "0"]
    command += ["--rest", f"127.0.0.1:{live.rest_port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        opened = open_tab(running.stdout.readline().split()[-1])
        assert opened.text_content("#server") == target
        assert "photos2 (canary)AVAILABLE" in opened.locator("#versions tr").first.text_content()
        upload(opened, ("one.jpg", jpeg(0)))
        opened.wait_for_selector("#figures li")
        wait_for_text(opened, "code", target)
        opened.context.close()
        running.terminate()


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_axe_finds_nothing(open_tab: Callable[..., Any], live: Any, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    opened = open_tab(url_of(live), color_scheme=scheme)
    opened.set_viewport_size({"width": width, "height": 900})
    upload(opened, *((f"{number}.jpg", jpeg(number)) for number in range(3)), ("bad.jpg", b"\xff\xd8\xff broken"))
    opened.wait_for_selector("#figures li")
    opened.click("summary")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(opened)
    assert not found.response["violations"], found.generate_report()
