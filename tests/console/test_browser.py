"""The page in chromium: `make test-browser`."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from ..client.fake_server import FakeServer, jpeg

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium on PATH: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def shown(app: Any) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def console(page: Callable[..., TestClient]) -> Iterator[str]:
    with shown(page("toy").app) as url:
        yield url


@pytest.fixture
def tab(chromium: Any, console: str) -> Iterator[Any]:
    """The page opened; it fails the test that it asked another origin, or had an error of its own in the script."""
    opened = chromium.new_page(viewport={"width": 1440, "height": 900})
    asked: list[str] = []
    errors: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(console)
    opened.wait_for_selector("#layer option", state="attached")
    yield opened
    opened.close()
    assert not [url for url in asked if not url.startswith((console, "blob:"))]
    assert not errors


def upload(tab: Any, *photos: tuple[str, bytes]) -> None:
    files = [{"name": name, "mimeType": "image/jpeg", "buffer": content} for name, content in photos]
    done = tab.locator("#photos > li").count() + len(files)
    tab.set_input_files("#files", files)
    tab.wait_for_function(
        "count => document.getElementById('progress').textContent.startsWith(`${count} photo`)", arg=done
    )


def test_a_photo_gives_labels_and_maps(tab: Any) -> None:
    upload(tab, ("one.jpg", jpeg(0)))
    assert set(tab.locator(".top li span:first-child").all_text_contents()) == {"cat", "dog", "bird", "fish"}
    buttons = tab.locator(".maps button")
    assert buttons.count() == 4
    buttons.nth(1).click()
    assert buttons.nth(1).get_attribute("aria-pressed") == "true"
    assert "early drawn over it" in tab.locator("canvas.view").get_attribute("aria-label")
    assert not tab.locator("#matrix-part").is_visible()


def test_photos_give_a_matrix(tab: Any) -> None:
    photos = [(f"{number}.jpg", jpeg(number)) for number in range(3)]
    upload(tab, *photos, ("again.jpg", jpeg(0)))
    rows = tab.locator("#matrix tbody tr")
    assert rows.count() == 4
    assert rows.locator("th").all_text_contents()[:2] == ["0.jpg", "again.jpg"]
    values = np.array([[float(text) for text in rows.nth(row).locator("td").all_text_contents()] for row in range(4)])
    np.testing.assert_allclose(np.diag(values), 1, atol=0.001)
    assert (np.diff(values[0]) <= 0).all()


def test_a_broken_photo_shows_the_servers_sentence(tab: Any) -> None:
    upload(tab, ("broken.jpg", b"\xff\xd8\xff broken"), ("good.jpg", jpeg(1)))
    assert tab.locator("#photos .error").all_text_contents() == ["the image cannot be decoded"]
    assert tab.locator("#photos .top").count() == 1


def test_fifty_photos_and_a_large_one(tab: Any, server: FakeServer) -> None:
    large = BytesIO()
    Image.fromarray(np.zeros((3000, 4000, 3), np.uint8)).save(large, "JPEG")
    upload(tab, ("large.jpg", large.getvalue()), *((f"{number}.jpg", jpeg(number)) for number in range(50)))
    assert tab.locator("#photos .top").count() == 51
    assert server.most_in_flight <= 4
    tab.click("#clear")
    assert tab.locator("#photos > li").count() == 0


def test_names_are_text(tab: Any) -> None:
    upload(tab, ("<img src=x onerror=alert(1)>.jpg", jpeg(0)))
    assert tab.locator("#photos img").count() == 0
    assert tab.locator("#photos h3 span").text_content().startswith("<img src=x")


def test_the_keyboard_is_enough(tab: Any) -> None:
    tab.focus("[data-sample=cat]")
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".maps button")
    tab.focus(".maps button >> nth=2")
    tab.keyboard.press("Space")
    assert tab.locator(".maps button").nth(2).get_attribute("aria-pressed") == "true"
    assert tab.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_a_server_that_goes_and_returns(tab: Any, server: FakeServer) -> None:
    server.stop()
    tab.wait_for_selector("#health.bad", timeout=30_000)
    assert server.target in tab.text_content("#health")
    server.start()
    tab.wait_for_selector("#health.good", timeout=30_000)
    upload(tab, ("one.jpg", jpeg(0)))
    assert tab.locator("#photos .top").count() == 1


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_axe_finds_nothing(tab: Any, width: int, scheme: str, tmp_path: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(color_scheme=scheme)
    upload(tab, *((f"{number}.jpg", jpeg(number)) for number in range(2)), ("bad.jpg", b"\xff\xd8\xff broken"))
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(tab)
    assert not found.response["violations"], found.generate_report()


def test_a_page_elsewhere_cannot_call(chromium: Any, console: str, server: FakeServer) -> None:
    opened = chromium.new_page()
    opened.goto("data:text/html,elsewhere")
    before = len(server.metadata)
    call = (
        f"fetch('{console}/console/api/look?name=toy', {{method: 'POST', mode: 'no-cors', body: 'x'}}).catch(() => 0)"
    )
    opened.evaluate(call)
    time.sleep(0.2)
    assert len(server.metadata) == before
    opened.close()
