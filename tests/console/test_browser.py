"""The page in chromium, over the fake server: `make test-browser`."""

import base64
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from featserve_client.wire import serving_pb2 as wire
from PIL import Image

from ..client.fake_server import FakeServer, jpeg, signatures
from .browser import upload, wait_for_photos, wait_for_text

pytestmark = pytest.mark.browser

#: Fires an event with a file, as a browser does when a user drops or pastes one.
_HAND_OVER = """([kind, encoded]) => {
  const transfer = new DataTransfer();
  const bytes = Uint8Array.from(atob(encoded), (each) => each.charCodeAt(0));
  transfer.items.add(new File([bytes], `${kind}.jpg`, { type: "image/jpeg" }));
  const options = { bubbles: true, cancelable: true };
  document.getElementById("drop").dispatchEvent(kind === "paste"
    ? new ClipboardEvent(kind, { ...options, clipboardData: transfer })
    : new DragEvent(kind, { ...options, dataTransfer: transfer }));
}"""


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
def test_it_fits_and_axe_finds_nothing(tab: Any, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(color_scheme=scheme)
    upload(tab, *((f"{number}.jpg", jpeg(number)) for number in range(2)), ("bad.jpg", b"\xff\xd8\xff broken"))
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(tab)
    assert not found.response["violations"], found.generate_report()


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_photos_are_dropped_and_pasted(tab: Any, kind: str) -> None:
    tab.evaluate(_HAND_OVER, [kind, base64.b64encode(jpeg(4)).decode()])
    wait_for_photos(tab, 1)
    assert tab.locator("#photos h3 span").text_content() == f"{kind}.jpg"
    assert tab.locator("#photos .top").count() == 1


def test_a_model_that_is_loading_is_waited_for(open_tab: Callable[..., Any], console: str, server: FakeServer) -> None:
    server.status.state = wire.ModelVersionStatus.LOADING
    opened = open_tab(console, ready=False)
    opened.wait_for_selector("#health.bad")
    assert opened.text_content("#health") == "no model version answers requests yet"
    wait_for_text(opened, "model-note", "version 1 of 'toy' does not answer: it is LOADING")
    opened.set_input_files("#files", {"name": "early.jpg", "mimeType": "image/jpeg", "buffer": jpeg(0)})
    assert opened.text_content("#progress") == "0 of 1 photos done"
    server.status.state = wire.ModelVersionStatus.AVAILABLE
    wait_for_photos(opened, 1)
    assert opened.text_content("#health") == "1 of 1 versions answer"
    assert opened.text_content("#model-note") == ""


def test_labels_and_since_when_are_shown(open_tab: Callable[..., Any], console: str, server: FakeServer) -> None:
    opened = open_tab(console)
    assert opened.locator("#versions td").nth(3).text_content().startswith("seen ")
    server.status.since, server.status.labels[:] = 86400.0, ["canary", "stable"]
    opened = open_tab(console, locale="en-GB", timezone_id="UTC")
    cells = opened.locator("#versions td").all_text_contents()
    assert cells == ["toy", "1 (canary, stable)", "AVAILABLE", "02/01/1970, 00:00:00"]


def test_a_model_without_a_manifest(open_tab: Callable[..., Any], console: str, server: FakeServer) -> None:
    server.signatures = signatures()
    del server.signatures.signature_def["manifest"]
    opened = open_tab(console)
    assert "carries no manifest" in opened.text_content("#model-note")
    opened.select_option("#layer", "early")
    upload(opened, ("one.jpg", jpeg(0)))
    assert opened.locator(".maps button").count() == 4 and opened.locator("#photos .top").count() == 0


def test_a_model_that_takes_no_files(open_tab: Callable[..., Any], console: str, server: FakeServer) -> None:
    server.signatures = signatures()
    for name in [each for each in server.signatures.signature_def if not each.startswith("serving_default")]:
        del server.signatures.signature_def[name]
    opened = open_tab(console, ready=False)
    opened.wait_for_selector("#cannot:not([hidden])")
    assert "was not exported by featserve-export" in opened.text_content("#cannot")
    assert not opened.is_visible("#drop")
    wait_for_text(opened, "code", "describe_signatures")


def test_the_code_is_copied(tab: Any) -> None:
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.wait_for_selector("#languages button")
    tab.click("#languages button >> text=Node")
    tab.click("#copy")
    wait_for_text(tab, "copy", "Copied")
    assert tab.evaluate("navigator.clipboard.readText()") == tab.text_content("#code")
    assert "@grpc/grpc-js" in tab.text_content("#code")
