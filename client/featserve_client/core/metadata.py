"""The model's metadata, asked for once, and its readiness."""

from __future__ import annotations

import time
from dataclasses import replace

from ..config import check_timeout
from ..exceptions import ConnectError, DeadlineExceeded, ModelNotFound, ResponseError, reworded
from ..model.manifest import parse_json
from ..model.metadata import ModelMetadata, VersionStatus, parse_metadata, parse_status
from ..model.signatures import MANIFEST
from ..wire.tensors import decode_predict_response
from .requests import ModelRequests
from .steps import Operation, Sleep

#: Seconds between two looks at a server that is not ready.
_POLL_S = 0.2


class MetadataCache:
    """Asks for the model's signatures and manifest, and remembers them until another version answers."""

    def __init__(self, requests: ModelRequests) -> None:
        self._requests = requests
        self._known: ModelMetadata | None = None

    def signatures(self, timeout_s: float | None = None) -> Operation[ModelMetadata]:
        """Returns the model's signatures, without its manifest if that is not known yet."""
        if self._known is None:
            self._known = parse_metadata((yield self._requests.metadata(timeout_s)))
        return self._known

    def with_manifest(self, timeout_s: float | None = None) -> Operation[ModelMetadata]:
        """Returns the model's signatures and, from models that carry one, the manifest.

        Raises:
            ResponseError: the manifest cannot be read.
        """
        known = yield from self.signatures(timeout_s)
        if known.manifest is None and MANIFEST in known.signatures:
            raw = yield self._requests.predict(MANIFEST, {}, timeout_s=timeout_s)
            version, outputs = decode_predict_response(raw)
            try:
                manifest = parse_json(outputs[MANIFEST].item())
            except (KeyError, ValueError, TypeError) as exc:
                model = self._requests.model
                raise ResponseError(f"model {model!r} has a manifest that cannot be read: {exc}") from exc
            known = replace(known, manifest=manifest)
            self._known = known if version == known.version else None
        return known

    def renewed(self, stale: ModelMetadata, timeout_s: float | None) -> Operation[ModelMetadata | None]:
        """Returns the signatures of the version that the server has now, None if that has not changed."""
        if self._known is stale:
            self._known = None
        fresh = yield from self.signatures(timeout_s)
        if fresh.version == stale.version:
            self._known = stale
            return None
        return fresh

    def answered_by(self, version: int) -> None:
        """Forgets the signatures if another version answered than theirs."""
        if self._known is not None and version not in (0, self._known.version):
            self._known = None


def status(requests: ModelRequests, timeout_s: float | None = None) -> Operation[list[VersionStatus]]:
    """Returns the state of each version of the model.

    Raises:
        ModelNotFound: the server has no such model, or the model has no such version: the text has those that it has.
    """
    try:
        return parse_status((yield requests.status(timeout_s)))
    except ModelNotFound as exc:
        if requests.version is None:
            raise
        others = parse_status((yield requests.status(timeout_s, of_all=True)))
        known = ", ".join(f"{each.version} {each.state}" for each in others)
        text = f"model {requests.model!r} at {exc.target} has no version {requests.version}; it has {known or 'none'}"
        raise reworded(exc, text) from exc


def wait_until_ready(requests: ModelRequests, cache: MetadataCache, timeout_s: float) -> Operation[None]:
    """Returns once a version is available, and has the label asked for."""
    end = time.monotonic() + check_timeout(timeout_s)
    last = ""
    while (left_s := end - time.monotonic()) > 0:
        try:
            versions = yield from status(requests, min(left_s, requests.timeout_s))
            ready = any(item.available for item in versions)
            if ready and requests.label is not None:  # the server gives a status for any label, known or not
                yield from cache.signatures(min(left_s, requests.timeout_s))
        except (ConnectError, ModelNotFound) as exc:
            last = str(exc)
        except DeadlineExceeded as exc:  # the last try's time is cut short: what an earlier one found tells more
            last = last or str(exc)
        else:
            if ready:
                return
            last = ", ".join(f"version {item.version} {item.state} {item.error}".rstrip() for item in versions)
        yield Sleep(min(_POLL_S, max(end - time.monotonic(), 0)))
    raise DeadlineExceeded(
        f"model {requests.model!r} is not ready after timeout_s={timeout_s:g} seconds: {last or 'it was not asked'}",
        model=requests.model,
    )
