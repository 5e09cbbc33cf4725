"""An image file of a bulk extraction."""

from __future__ import annotations

import hashlib
from typing import Any

from ..exceptions import FeatserveError
from ..images.inputs import header_size, read_path


class InputFile:
    """An image file, read by one of the stream's threads; `fact` holds the columns of its row."""

    def __init__(self, path: str, limit: int) -> None:
        self.name = path
        self.fact: dict[str, Any] = {"path": path, "width": 0, "height": 0, "sha256": ""}
        self._limit = limit

    def read(self) -> bytes:
        """Returns the file's bytes, and complete `fact`.

        Raises:
            InvalidImageError: the file cannot be read, is too large, or is no regular file.
        """
        data = read_path(self.name, self.name, self._limit)
        self.fact["sha256"] = hashlib.sha256(data).hexdigest()
        try:
            self.fact["width"], self.fact["height"] = header_size(self.name, data)
        except FeatserveError:  # the server may read what Pillow does not
            pass
        return data
