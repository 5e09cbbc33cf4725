"""One server that is watched: the findings about its models, and the moment of the next look."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..client import FeatureClient
from ..exceptions import ConnectError, FeatserveError, TransportError
from .check import Result, check_model
from .pace import Pace
from .references import References


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The last result of a version of a model on a server."""

    server: str
    result: Result
    #: Seconds since 1970 of the last look that found all well; None if there was none.
    last_success: float | None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The time that looking at a server takes."""

    #: Seconds in which it was asked, since the watch began.
    asked_s: float
    #: Seconds from one look to the next.
    interval_s: float


class WatchedServer:
    """A server's findings, renewed by `look`. Safe to read from other threads."""

    def __init__(
        self,
        address: str,
        target: str,
        models: Sequence[str],
        make_client: Callable[[str, str], FeatureClient],
        *,
        every_s: float,
        report: Callable[[Finding], None],
    ) -> None:
        """Takes the address, the target that stands for it, and what makes a client from it and a model's name.

        `report` hears of results that are new, pass where they failed, fail where they passed, or fail otherwise.
        """
        self.address = address
        self.target = target
        #: When the target last stood for the address, in seconds of the monotonic clock.
        self.last_named = 0.0
        #: When the next look is due, by the same clock.
        self.due = 0.0
        self._models = models
        self._make_client = make_client
        self._report = report
        self._pace = Pace(every_s)
        self._asked_s = 0.0
        self._lock = threading.Lock()
        self._findings: dict[tuple[str, int | None], Finding] = {}

    def look(self, photo: bytes, references: References) -> None:
        """Asks each model, and keeps the findings; a server that does not answer fails all of them."""
        started = time.monotonic()
        silent: FeatserveError | None = None
        for model in self._models:
            results = [] if silent else self._ask(model, photo, references)
            if isinstance(results, FeatserveError):
                silent, results = results, []
            self._take(model, results or [Result(model=model, fault=str(silent))])
        # Nobody is there to be kept busy.
        seconds = 0.0 if isinstance(silent, ConnectError) else time.monotonic() - started
        with self._lock:
            self._asked_s += seconds
            self.due = started + self._pace.after(seconds, answered=silent is None)

    def _ask(self, model: str, photo: bytes, references: References) -> list[Result] | FeatserveError:
        try:
            # A client of its own each time: it remembers nothing, and shakes hands with the server as a caller does.
            with self._make_client(self.address, model) as client:
                return check_model(client, photo, references, self.address)
        except TransportError as exc:
            return exc
        except FeatserveError as exc:
            return [Result(model=model, fault=str(exc))]

    def findings(self) -> list[Finding]:
        """Returns the last findings about each model and version."""
        with self._lock:
            return list(self._findings.values())

    def cost(self) -> Cost:
        """Returns the time that looking at the server takes."""
        with self._lock:
            return Cost(asked_s=self._asked_s, interval_s=self._pace.interval_s)

    def _take(self, model: str, results: Sequence[Result]) -> None:
        """Replaces a model's findings; where no version is named now, those that were known have failed."""
        with self._lock:
            before = {key: finding for key, finding in self._findings.items() if key[0] == model}
            found = {(model, result.version): result for result in results}
            if list(found) == [(model, None)] and any(version is not None for _, version in before):
                fault = results[0].fault
                found = {
                    key: replace(finding.result, fault=fault, cosines={}, latency_s=None)
                    for key, finding in before.items()
                }
            for key in before:
                del self._findings[key]
            changed = []
            for key, result in found.items():
                old = before.get(key)
                last = time.time() if result.passed else old.last_success if old else None
                self._findings[key] = Finding(server=self.address, result=result, last_success=last)
                if old is None or _kind(old.result) != _kind(result):
                    changed.append(self._findings[key])
        for finding in changed:
            self._report(finding)


def _kind(result: Result) -> str:
    """Returns the fault without its numbers, which differ from look to look."""
    return re.sub(r"\d+", "", result.fault)


def describe(finding: Finding) -> str:
    """Returns a finding in a line.

    Example:
        >>> result = Result(model="vgg16", version=1, fault="no answer")
        >>> describe(Finding(server="10.0.0.7:8500", result=result, last_success=None))
        'FAILED  10.0.0.7:8500  vgg16 version 1  no answer'
    """
    result = finding.result
    version = "" if result.version is None else f" version {result.version}"
    parts = ["ok    " if result.passed else "FAILED", finding.server, f"{result.model}{version}"]
    if result.fault:
        parts.append(result.fault)
    else:
        parts.append(_lowest(result.cosines))
        parts.append(f"{(result.latency_s or 0) * 1000:.1f} ms")
        parts.append(f"against {result.against}")
    return "  ".join(parts)


def _lowest(cosines: Mapping[str, float]) -> str:
    if not cosines:
        return "first look"
    layer = min(cosines, key=lambda layer: cosines[layer])
    return f"cosine {cosines[layer]:.7f} ({layer})"
