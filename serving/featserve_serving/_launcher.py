"""Which server to run."""

from __future__ import annotations

import sys

from . import _compose, _embedded, _external
from ._errors import SetupError
from ._flags import Settings


def serve(settings: Settings) -> int:
    """Serve until asked to stop; return the exit status.

    Raises:
        SetupError: it cannot start as asked.
    """
    _embedded.require_models(settings)
    runtime, why = choose(settings.text("runtime"))
    print(f"featserve-serve: runtime {runtime}: {why}", file=sys.stderr)
    if runtime == "embedded":
        return _embedded.serve(settings)
    return _external.serve(settings, _compose.plan if runtime == "docker" else _external.plan)


def choose(wanted: str) -> tuple[str, str]:
    """Return the runtime, and why it is that one.

    Raises:
        SetupError: the one that was asked for cannot be run here.
    """
    if wanted == "embedded":
        return wanted, "asked for"
    reasons = {"docker": _compose.reason, "native": _external.native_reason}
    if wanted in reasons:
        if reason := reasons[wanted]():
            raise SetupError(f"--runtime {wanted}: {reason}; --runtime embedded needs neither")
        return wanted, "asked for"
    found: list[str] = []
    for runtime, reason_of in reasons.items():
        reason = reason_of()
        if reason is None:
            return runtime, "; ".join([*found, "this one is there"])
        found.append(reason)
    return "embedded", "; ".join(found)
