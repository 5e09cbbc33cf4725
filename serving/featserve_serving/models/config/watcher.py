"""Keeps the loaded models at what the source of the configuration says."""

from __future__ import annotations

import logging
import threading
from typing import Any

from ...errors import RequestError, ServingError, SetupError
from ..manager import ModelManager
from .source import ModelSource

_LOGGER = logging.getLogger(__name__)


class ConfigWatcher:
    """Applies the configuration at start, and whenever its source has changed.

    Args:
        source: gives the `ModelServerConfig`.
        manager: loads the models.
        poll_interval_s: seconds between two looks at the source; 0 means one look.

    Raises:
        SetupError: the configuration cannot be read.
    """

    def __init__(self, source: ModelSource, manager: ModelManager, poll_interval_s: float) -> None:
        self._source = source
        self._manager = manager
        self._poll_interval_s = poll_interval_s
        self._config = source.read()
        self._problems = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="featserve-config", daemon=True)

    def start(self) -> None:
        """Loads the models, then watches the source.

        Raises:
            SetupError: a model cannot be loaded or, where each model stands for itself, no model can.
        """
        try:
            problems = self._apply(self._config)
        except RequestError as exc:
            raise SetupError(str(exc)) from exc
        if problems and not any(self._manager.catalog.available().values()):
            raise SetupError(problems)
        self._report(problems)
        self._manager.start()
        if self._poll_interval_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """Ends the watch."""
        self._stopping.set()

    def join(self) -> None:
        """Waits for a change that is under way."""
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_interval_s):
            try:
                config = self._source.read()
                if config != self._config or self._problems:
                    self._report(self._apply(config))
            except ServingError as exc:
                self._report(f"the new configuration is not applied: {exc}")
            except Exception:
                _LOGGER.exception("the new configuration is not applied")

    def _apply(self, config: Any) -> str:
        """Changes to a configuration; returns what could not be done."""
        problems: list[str] = []
        if self._source.each:
            problems = self._manager.apply_each(config)
        else:
            self._manager.apply(config)
        self._config = config
        return "; ".join(problems)

    def _report(self, problems: str) -> None:
        """Logs what is wrong with the configuration, once."""
        if problems and problems != self._problems:
            _LOGGER.error("%s", problems)
        self._problems = problems
