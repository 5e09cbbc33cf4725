"""Pages of other sites in the same chromium: none makes it call the model."""

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..client.fake_server import FakeServer
from .browser import REBOUND

pytestmark = pytest.mark.browser

#: What a page can try, given the address of the console. Each ends, whether it is refused or not.
ATTEMPTS = {
    "fetch": "fetch(url, { method: 'POST', body: 'x' }).catch(() => 0)",
    "fetch without CORS": "fetch(url, { method: 'POST', mode: 'no-cors', body: 'x' }).catch(() => 0)",
    "beacon": "Promise.resolve(navigator.sendBeacon(url, 'x'))",
    "image": """new Promise((done) => {
        const image = new Image();
        image.onload = image.onerror = done;
        image.src = get;
    })""",
    "script": """new Promise((done) => {
        const script = document.createElement("script");
        script.onload = script.onerror = done;
        script.src = get;
        document.body.append(script);
    })""",
    "frame": """new Promise((done) => {
        const frame = document.createElement("iframe");
        frame.onload = done;
        frame.src = get;
        document.body.append(frame);
    })""",
    "form": """new Promise((done) => {
        document.body.innerHTML = '<iframe name="result"></iframe><form method="post" target="result"></form>';
        const form = document.querySelector("form");
        Object.assign(form, { action: url, enctype: "text/plain" });
        form.submit();
        document.querySelector("iframe").onload = done;
    })""",
}


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title><body>")

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """The port of another web server of this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_port
        listening.shutdown()
        thread.join()


def attempt(opened: Any, code: str, console: str) -> list[int]:
    """Lets a page try to call, and returns what status the console answered with each time."""
    statuses: list[int] = []
    opened.on("response", lambda response: statuses.append(response.status) if "/api/" in response.url else None)
    url, get = f"{console}/console/api/look?name=toy", f"{console}/console/api/model?name=toy"
    opened.evaluate(f"async ([url, get]) => {{ await {code}; }}", [url, get])
    opened.wait_for_timeout(200)
    return statuses


def calls(server: FakeServer) -> int:
    return len(server.metadata)


@pytest.mark.parametrize("site", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_page_elsewhere_cannot_call(
    chromium: Any, console: str, server: FakeServer, elsewhere: int, site: str, name: str
) -> None:
    opened = chromium.new_page()
    opened.goto(f"http://{site}:{elsewhere}/")
    statuses = attempt(opened, ATTEMPTS[name], console)
    opened.close()
    assert calls(server) == 0 and not server.predicts
    assert set(statuses) <= {403}


@pytest.mark.parametrize("name", ["fetch", "form", "frame"])
def test_a_name_that_was_rebound_cannot_call(chromium: Any, console: str, server: FakeServer, name: str) -> None:
    rebound = f"http://{REBOUND}:{urlsplit(console).port}"
    opened = chromium.new_page()
    answer = opened.goto(rebound)
    assert answer.status == 403 and "does not answer to the host" in opened.content()
    statuses = attempt(opened, ATTEMPTS[name], rebound)
    opened.close()
    assert calls(server) == 0 and not server.predicts
    assert set(statuses) <= {403}


def test_the_page_itself_can(open_tab: Callable[..., Any], console: str, server: FakeServer) -> None:
    """What the tests above count does move."""
    opened = open_tab(console)
    before = calls(server), len(server.predicts)
    assert attempt(opened, ATTEMPTS["fetch"], console)[0] == 200
    assert calls(server) > before[0] and len(server.predicts) > before[1]
