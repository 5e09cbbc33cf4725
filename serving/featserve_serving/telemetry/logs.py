"""Logs: one JSON object a line, each with the id of the request that it belongs to."""

from __future__ import annotations

import logging
import sys
from typing import Any

from pythonjsonlogger import json

from .call import current_call

_FACTS = ("request_id", "entrypoint", "model", "version", "signature")


class JsonFormatter(json.JsonFormatter):
    """Formats a record as JSON, with what is known about the call that it belongs to."""

    def __init__(self) -> None:
        names = {"levelname": "level", "name": "logger", "exc_info": "exception"}
        super().__init__("%(levelname)s %(name)s %(message)s", rename_fields=names, timestamp="time")

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Adds the call's identity, as far as it is known."""
        super().add_fields(log_data, record, message_dict)
        if call := current_call():
            facts = {name: getattr(call, name) for name in _FACTS}
            log_data.update((name, value) for name, value in facts.items() if value not in ("", None))


class _StderrHandler(logging.Handler):
    """Writes to what is stderr now: whoever replaced it may have closed the one that was there at start."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def configure(log_format: str) -> None:
    """Sends this package's log to stderr."""
    handler = _StderrHandler()
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("featserve_serving")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
