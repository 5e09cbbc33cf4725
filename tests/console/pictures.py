"""Takes the pictures of the console that the READMEs show: serves a model root, looks at three photos, and calls it."""

import argparse
import shutil
import threading
from pathlib import Path
from typing import Any

from featserve_client import FeatureClient
from featserve_serving import create_server
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "client" / "pictures"
SAMPLES = ROOT / "client" / "featserve_console" / "static" / "samples"
#: Name, width, height, scheme; the narrow one as a telephone has it.
PICTURES = (
    ("console", 1440, 1250, "light"),
    ("console_dark", 1440, 1250, "dark"),
    ("console_narrow", 360, 1500, "light"),
)


def main() -> None:
    """Writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-root", type=Path, default=ROOT / "build" / "models")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--output", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    with create_server(
        model_root=arguments.model_root, address="127.0.0.1:8500", rest_address="127.0.0.1:8501"
    ) as server:
        done = threading.Event()
        caller = threading.Thread(target=call, args=(server.port, arguments.model, done))
        caller.start()
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                for name, width, height, scheme in PICTURES:
                    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                    page.goto("http://localhost:8501/")
                    take(page, arguments.output / f"{name}.jpg", arguments.model, width)
                browser.close()
        finally:
            done.set()
            caller.join()


def take(page: Any, path: Path, model: str, width: int) -> None:
    """Waits until the page has something to show, and writes its picture."""
    page.wait_for_selector("#layer option", state="attached")
    page.select_option("#model", label=f"{model}, version 1")
    page.wait_for_selector("#layer option[value=top_activation]", state="attached")
    for sample in ("cat", "coffee", "astronaut"):
        page.click(f"[data-sample={sample}]")
        page.wait_for_timeout(200)
    page.wait_for_function("() => document.getElementById('progress').textContent === '3 photos done'")
    page.wait_for_timeout(20_000)  # until the figures are lines
    page.evaluate("(shown) => document.querySelector(shown).scrollIntoView()", "body" if width > 960 else "#try-title")
    page.screenshot(path=path, type="jpeg", quality=80)


def call(port: int, model: str, done: threading.Event) -> None:
    """Calls the model now and then, so that there are figures to see."""
    photos = sorted(SAMPLES.glob("*.jpg"))
    with FeatureClient(f"127.0.0.1:{port}", model=model) as client:
        count = 0
        while not done.wait(0.05 + 0.3 * (count % 40 > 20)):
            client.extract(photos[count % 3], layers="top_activation")
            count += 1


if __name__ == "__main__":
    main()
