"""A server as the page sees it, through the client: any that speaks TensorFlow Serving's API."""

from __future__ import annotations

import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from featserve_client import (
    ConfigError,
    ConnectError,
    DeadlineExceeded,
    FeatserveError,
    FeatureClient,
    InvalidRequest,
    MessageTooLarge,
    ModelMetadata,
    ModelNotFound,
    ServerError,
    ServerOverloaded,
    TensorSpec,
    VersionStatus,
)

from .prometheus import model_names
from .source import Address, Answer, Description, Signature, SourceError, Tensor, VersionState

_STATUSES: Mapping[type[FeatserveError], int] = {
    ConnectError: 503,
    DeadlineExceeded: 504,
    MessageTooLarge: 413,
    ModelNotFound: 404,
    InvalidRequest: 400,
    ServerOverloaded: 429,
    ConfigError: 400,
}
_METRICS = "/monitoring/prometheus/metrics"
_MAX_METRICS_BYTES = 16 << 20
#: Seconds that questions about the server may take; the page asks them again.
_STATUS_S = 4.0
#: Bytes of a request that are not the image.
_ENVELOPE = 64 << 10


class ClientSource:
    """Asks a server for the page, with one client per model, and one per version that was looked at."""

    def __init__(
        self,
        make_client: Callable[[str], FeatureClient],
        names: Sequence[str],
        address: Address,
        *,
        fallback: str,
        max_message_bytes: int,
        ca: str | None = None,
    ) -> None:
        """Asks nothing yet.

        Args:
            make_client: gives the client of a model.
            names: the models to show; if there are none, those that the metrics name.
            address: where the server is.
            fallback: the model shown where nothing else names one.
            max_message_bytes: size of the largest message.
            ca: the file of the authority that signed the certificate of the REST API.
        """
        self._make_client = make_client
        self._names = names
        self._address = address
        self._fallback = fallback
        self._max_message_bytes = max_message_bytes
        self._ca = ca
        self._clients: dict[str, FeatureClient] = {}
        self._pinned: dict[tuple[str, int], FeatureClient] = {}
        self._seen: dict[tuple[str, int], tuple[tuple[str, float | None], float]] = {}
        self._lock = threading.Lock()

    @property
    def max_upload_bytes(self) -> int:
        """Bytes of the largest image file that fits into a message."""
        return max(0, self._max_message_bytes - _ENVELOPE)

    def address(self, host: str) -> Address:
        """Returns where the server is; it is the same for every browser."""
        return self._address

    def models(self) -> Mapping[str, Sequence[VersionState]]:
        """Returns the versions of each model, newest first; a model that the server does not know has none."""
        return {name: self._versions(name) for name in self._known_names()}

    def describe(self, model: str, version: int | None) -> Description:
        """Returns the description of a version; None stands for the newest that answers."""
        number = self._newest(model) if version is None else version
        with self._sentences():
            found = self._version(model, number).metadata()
        return Description(version=found.version, signatures=_signatures(found), manifest=found.manifest)

    def predict(
        self, model: str, version: int, signature: str, inputs: Mapping[str, Sequence[bytes]], outputs: Sequence[str]
    ) -> Answer:
        """Calls a signature of a version."""
        lists = {name: list(values) for name, values in inputs.items()}
        with self._sentences():
            client = self._version(model, version)
            return Answer(outputs=client.predict(lists, signature=signature, output_filter=outputs))

    def metrics(self) -> str | None:
        """Returns the metrics page of the REST API; None where its address is not known."""
        if self._address.rest is None:
            return None
        url = f"{self._address.rest}{_METRICS}"
        tls = ssl.create_default_context(cafile=self._ca) if url.startswith("https:") else None
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=tls)] if tls else [])
        )
        try:
            with opener.open(url, timeout=_STATUS_S) as answer:
                page: bytes = answer.read(_MAX_METRICS_BYTES)
        except urllib.error.HTTPError as exc:
            exc.close()
            raise SourceError(
                f"{url} answers {exc.code}: start the server with --monitoring_config_file that enables Prometheus", 502
            ) from exc
        except OSError as exc:
            raise SourceError(f"no metrics at {url}: {getattr(exc, 'reason', exc)}", 503) from exc
        return page.decode("utf-8", "replace")

    def _known_names(self) -> Sequence[str]:
        if self._names or self._address.rest is None:
            return self._names or [self._fallback]
        try:
            found = model_names(self.metrics() or "")
        except SourceError:  # The page shows this error beside the figures.
            found = set()
        return sorted(found) or [self._fallback]

    def _versions(self, name: str) -> Sequence[VersionState]:
        try:
            with self._sentences():
                found = self._client(name).status(timeout_s=_STATUS_S)
        except SourceError as exc:
            if exc.status == 404:
                return []
            raise
        self._note_states(name, found)
        return [
            VersionState(
                version=each.version,
                state=each.state,
                error=each.error,
                labels=each.labels,
                since=each.since,
                seen=self._first_seen(name, each) if each.since is None else None,
            )
            for each in reversed(found)
        ]

    def _newest(self, model: str) -> int:
        versions = self._versions(model)
        if not versions:
            raise SourceError(f"the server has no model {model!r}", 404)
        ready = [each.version for each in versions if each.state == "AVAILABLE"]
        if not ready:
            states = ", ".join(f"version {each.version} is {each.state}" for each in versions)
            raise SourceError(f"no version of {model!r} answers yet: {states}", 503)
        return ready[0]

    def _first_seen(self, name: str, status: VersionStatus) -> float:
        with self._lock:
            return self._seen[name, status.version][1]

    def _note_states(self, name: str, found: Sequence[VersionStatus]) -> None:
        """Notes when a version came into another state; what was known of it may no longer be true."""
        with self._lock:
            for each in found:
                state = each.state, each.since
                known = self._seen.get((name, each.version))
                if known is None or known[0] != state:
                    self._seen[name, each.version] = state, time.time()
                    self._pinned.pop((name, each.version), None)

    def _client(self, name: str) -> FeatureClient:
        with self._lock:
            if name not in self._clients:
                self._clients[name] = self._make_client(name)
            return self._clients[name]

    def _version(self, name: str, version: int) -> FeatureClient:
        client = self._client(name)
        with self._lock:
            if (name, version) not in self._pinned:
                self._pinned[name, version] = client.pinned(version)
            return self._pinned[name, version]

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turns the client's errors into sentences for the page: the server's own words where it has any."""
        try:
            yield
        except FeatserveError as exc:
            if isinstance(exc, ConnectError):
                with self._lock:  # A server that returns may serve other models under the same numbers.
                    self._pinned.clear()
            status = next((code for kind, code in _STATUSES.items() if isinstance(exc, kind)), 502)
            words = exc.details if isinstance(exc, ServerError) and exc.details else str(exc)
            raise SourceError(words, status) from exc


def _signatures(model: ModelMetadata) -> dict[str, Signature]:
    return {
        name: Signature(inputs=_tensors(signature.inputs), outputs=_tensors(signature.outputs))
        for name, signature in model.signatures.items()
    }


def _tensors(specs: Mapping[str, TensorSpec]) -> dict[str, Tensor]:
    return {name: Tensor(dtype=spec.dtype, shape=spec.shape) for name, spec in specs.items()}
