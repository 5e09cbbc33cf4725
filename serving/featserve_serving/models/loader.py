"""Loads a version, with its warm-up and further tries, and unloads it once no call holds it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from ..allocator import trim
from ..c_api.library import OpError
from ..errors import RequestError
from ..options import ModelOptions
from . import warmup
from .servable import Servable
from .state import Model, State, Version
from .versions import fingerprint

_LOGGER = logging.getLogger(__name__)

_UNKNOWN = 2


class Loader:
    """Takes versions from one state to the next.

    Args:
        options: how models are loaded.
        changed: guards every version; told when a call lets go of one.
        stopping: ends the wait for another try.
        on_change: called after any version changed its state.
        on_load: called with the model, the version and the seconds that it took, after one was loaded.
    """

    def __init__(
        self,
        options: ModelOptions,
        changed: threading.Condition,
        stopping: threading.Event,
        on_change: Callable[[], None],
        on_load: Callable[[str, int, float], None],
    ) -> None:
        self._options = options
        self._changed = changed
        self._stopping = stopping
        self._on_change = on_change
        self._on_load = on_load

    def load(self, model: Model, version: Version) -> None:
        """Loads a version; where that fails, the version keeps the error."""
        with self._changed:
            model.versions[version.number] = version
        for attempt in range(self._options.max_load_retries + 1):
            if attempt and self._stopping.wait(self._options.load_retry_interval_s):
                return
            version.fingerprint = fingerprint(version.path)
            self._enter(version, State.LOADING)
            started = time.monotonic()
            try:
                servable = self._warm(version)
            except Exception as exc:
                version.error_code, version.error_message = _load_error(exc, version)
                foreseen = isinstance(exc, (OpError, OSError, RequestError))
                _LOGGER.error(
                    "model %s: version %d did not load: %s",
                    version.name,
                    version.number,
                    version.error_message,
                    exc_info=None if foreseen else exc,
                )
                continue
            version.error_code, version.error_message = 0, ""
            version.servable = servable
            self._enter(version, State.AVAILABLE)
            took_s = time.monotonic() - started
            _LOGGER.info("model %s: version %d is available after %.2f s", version.name, version.number, took_s)
            self._on_load(version.name, version.number, took_s)
            return
        self._enter(version, State.END)

    def unload(self, version: Version) -> None:
        """Unloads a version once no call holds it."""
        if version.servable is None:
            return
        self._enter(version, State.UNLOADING)
        with self._changed:
            self._changed.wait_for(lambda: not version.users)
            servable, version.servable = version.servable, None
        servable.close()
        self._enter(version, State.END)
        _LOGGER.info("model %s: version %d is unloaded", version.name, version.number)

    def _warm(self, version: Version) -> Servable:
        os.listdir(version.path)  # TensorFlow says "does not exist" of what it has no right to read
        servable = Servable(version.path, self._options)
        try:
            if self._options.warmup:
                warmup.replay(servable, version.path, self._options.warmup_iterations)
        except BaseException:
            servable.close()
            raise
        trim()  # TensorFlow's optimiser works on many copies of a graph
        return servable

    def _enter(self, version: Version, state: State) -> None:
        with self._changed:
            version.enter(state)
        self._on_change()


def _load_error(exc: Exception, version: Version) -> tuple[int, str]:
    """Returns the canonical code and a text without the server's paths."""
    code = exc.code if isinstance(exc, OpError) else _UNKNOWN
    return code, str(exc).replace(str(version.path), f"{version.name}/{version.number}")
