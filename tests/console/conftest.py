"""The page over a server of the tests, and opened in chromium."""

import copy
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from featserve_client import FeatureClient
from featserve_console import Address, console_app
from featserve_console.client_source import ClientSource
from starlette.testclient import TestClient

from ..client.fake_server import MANIFEST, FakeServer
from .browser import REBOUND, shown

BASE = "http://127.0.0.1:8502"
NAMES = ["cat", "dog", "bird", "fish"]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    manifest = copy.deepcopy(MANIFEST)
    manifest |= {
        "backbone": "drawn",
        "precision": "float32",
        "labels": {"late": NAMES},
        "closeness": {"early": {"cosine": 0.999999}},
    }
    fake = FakeServer(manifest=manifest).start()
    yield fake
    fake.stop()


@pytest.fixture
def page(server: FakeServer) -> Iterator[Callable[..., TestClient]]:
    """Returns a function that opens the page, for models and a REST API of choice."""
    made: list[FeatureClient] = []

    def client(name: str) -> FeatureClient:
        made.append(FeatureClient(server.target, model=name, timeout_s=10))
        return made[-1]

    def open_page(*names: str, rest: str | None = None, max_message_bytes: int = 1 << 20) -> TestClient:
        source = ClientSource(
            client,
            names,
            Address(grpc=server.target, rest=rest),
            fallback="toy",
            max_message_bytes=max_message_bytes,
        )
        return TestClient(console_app(source, ["console.example"]), base_url=BASE, raise_server_exceptions=False)

    yield open_page
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium on PATH: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def console(page: Callable[..., TestClient]) -> Iterator[str]:
    """The address of a console over the fake server."""
    with shown(page("toy").app) as url:
        yield url


@pytest.fixture
def open_tab(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Returns a function that opens a page; the test fails if one asks another origin, or its script fails."""
    contexts: list[Any] = []
    asked: list[tuple[str, str]] = []
    errors: list[str] = []

    def open_at(url: str, *, ready: bool = True, **options: Any) -> Any:
        contexts.append(chromium.new_context(viewport={"width": 1440, "height": 900}, **options))
        opened = contexts[-1].new_page()
        opened.on("request", lambda request: asked.append((url, request.url)))
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.goto(url)
        if ready:
            opened.wait_for_selector("#layer option", state="attached")
        return opened

    yield open_at
    for context in contexts:
        context.close()
    assert not [each for own, each in asked if not each.startswith((own, "blob:"))]
    assert not errors


@pytest.fixture
def tab(open_tab: Callable[..., Any], console: str) -> Any:
    """The page over the fake server, opened."""
    return open_tab(console)
