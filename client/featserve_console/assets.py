"""The page's files, read once: a path is looked up in a table, and never becomes a path of the disk.

The style sheet is sent inside the page: a browser paints nothing before it has it, and would have to ask once more.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "jpg": "image/jpeg",
    "svg": "image/svg+xml",
}
_FILES = (
    "index.html",
    "console.js",
    "icon.svg",
    "samples/cat.jpg",
    "samples/coffee.jpg",
    "samples/astronaut.jpg",
)
#: Where the style sheet goes.
_STYLE = b'<link rel="stylesheet" href="console.css">'


class Assets:
    """The files by name, each with the tag that tells a browser whether its copy is still right."""

    def __init__(self) -> None:
        """Reads the files."""
        folder = resources.files(__package__) / "static"
        contents = {name: folder.joinpath(*name.split("/")).read_bytes() for name in _FILES}
        style = (folder / "console.css").read_bytes()
        contents["index.html"] = contents["index.html"].replace(_STYLE, b"<style>%s</style>" % style)
        #: The style sheet's hash, as a Content-Security-Policy names it.
        self.style_hash = f"sha256-{base64.b64encode(hashlib.sha256(style).digest()).decode()}"
        self._files: Mapping[str, tuple[bytes, str]] = {
            name: (content, f'"{hashlib.sha256(content).hexdigest()[:16]}"') for name, content in contents.items()
        }

    def response(self, request: Request, name: str) -> Response | None:
        """Returns a file as an answer; None if there is none of this name."""
        if name not in self._files:
            return None
        content, tag = self._files[name]
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=_TYPES[name.rpartition(".")[2]])
