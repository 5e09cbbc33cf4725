"""What the tests in a browser do with the page."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

#: A name that this chromium takes for this machine, as after DNS rebinding.
REBOUND = "rebound.example"


@contextmanager
def shown(app: Any) -> Iterator[str]:
    """Serves an application, and gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def upload(tab: Any, *photos: tuple[str, bytes]) -> None:
    """Chooses files, and waits until all photos of the page are done."""
    files = [{"name": name, "mimeType": "image/jpeg", "buffer": content} for name, content in photos]
    done = tab.locator("#photos > li").count() + len(files)
    tab.set_input_files("#files", files)
    wait_for_photos(tab, done)


def wait_for_photos(tab: Any, count: int) -> None:
    """Waits until so many photos are on the page, and all are done."""
    tab.wait_for_function(
        "count => document.getElementById('progress').textContent.startsWith(`${count} photo`)", arg=count
    )


def wait_for_text(tab: Any, place: str, text: str) -> None:
    """Waits until an element holds a text."""
    tab.wait_for_function(
        "([place, text]) => document.getElementById(place).textContent.includes(text)", arg=[place, text]
    )
