"""Logs: one JSON object a line, each with the id of the request that it belongs to."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone

from . import _calls

FORMATS = ("json", "text")


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        call = _calls.current()
        if call is not None:
            line["request_id"] = call.request_id
            line["entrypoint"] = call.entrypoint
            if call.model:
                line["model"] = call.model
            if call.version is not None:
                line["version"] = call.version
            if call.signature:
                line["signature"] = call.signature
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _StderrHandler(logging.Handler):
    """Writes to what is stderr now: whoever replaced it may have closed the one that was there at start."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def configure(log_format: str) -> None:
    """Send this package's log to stderr."""
    handler = _StderrHandler()
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("featserve_serving")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
