"""Which versions of which models are loaded, and the way from one such state to the next.

A version that the policy asks for is loaded and warmed before any other leaves; one that fails to load is passed over
until its files change, so that the policy falls back to the version that works.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import FailedPrecondition
from ..options import ModelOptions
from .aspired import aspired_versions
from .catalog import Catalog
from .config.check import models_by_name
from .labels import Labels
from .loader import Loader
from .paths import local_path
from .state import Model, Version
from .versions import choose_versions, scan_versions

_LOGGER = logging.getLogger(__name__)
_LEAST_LOADED_AT_ONCE = 2


class ModelManager:
    """Loads, swaps and unloads the versions that a `ModelServerConfig` asks for.

    Args:
        options: how models are found and loaded.
        on_change: called after any version changed its state.
        on_load: called with the model, the version and the seconds that it took, after one was loaded.

    Attributes:
        catalog: the models.
    """

    def __init__(
        self,
        options: ModelOptions,
        on_change: Callable[[], None] = lambda: None,
        on_load: Callable[[str, int, float], None] = lambda *_: None,
    ) -> None:
        self._options = options
        self._on_change = on_change
        self.catalog = Catalog()
        self._reconciling = threading.Lock()
        self._stopping = threading.Event()
        self._labels = Labels(allow_unavailable=options.allow_labels_for_unavailable)
        self._loader = Loader(options, self.catalog.changed, self._stopping, on_change, on_load)
        self._poller: threading.Thread | None = None

    # The life of the manager.

    def start(self) -> None:
        """Keeps looking for new versions of the models that are configured."""
        if self._options.poll_interval_s > 0:
            self._poller = threading.Thread(target=self._poll, name="featserve-models", daemon=True)
            self._poller.start()

    def stop(self) -> None:
        """Unloads everything, once the calls that run have ended."""
        self._stopping.set()
        if self._poller:
            self._poller.join()
        with self._reconciling:
            for model in list(self.catalog.models.values()):
                for version in list(model.versions.values()):
                    self._loader.unload(version)

    def _poll(self) -> None:
        while not self._stopping.wait(self._options.poll_interval_s):
            try:
                self.reconcile()
            except Exception:
                _LOGGER.exception("looking for new versions failed; the next poll tries again")

    # Configuration.

    def apply(self, config: Any) -> None:
        """Changes to another model set: loads new versions, then moves the labels, then unloads old versions.

        Raises:
            InvalidArgument: the configuration contradicts itself.
            FailedPrecondition: a new model has no version that loads, or a label's version is not available; nothing
                has changed.
        """
        with self._reconciling:
            wanted = self._validated(config)
            self._check_before_change(wanted)
            before = {name: model.config for name, model in self.catalog.models.items()}
            self._configure(wanted)
            try:
                self._side_by_side(self._load_aspired, wanted)
                self._require_available(wanted)
                with self.catalog.changed:
                    self._labels.check(self.catalog.models, wanted)
                    for name, model_config in wanted.items():
                        self._labels.move(self.catalog.models[name], name, model_config)
                after = {**dict.fromkeys(before), **wanted}
            except BaseException:
                after = {**dict.fromkeys(wanted), **before}
                raise
            finally:
                self._replace(after)
        self.catalog.starting = False
        self._on_change()

    def apply_each(self, config: Any) -> list[str]:
        """Changes to another model set, each model by itself: a model that cannot be served holds up no other.

        Returns:
            What could not be done. Another call tries it again.

        Raises:
            InvalidArgument: the configuration contradicts itself.
        """
        problems: list[str] = []
        with self._reconciling:
            wanted = self._validated(config)
            before = dict.fromkeys(self.catalog.models)
            self._configure(wanted)

            def serve(name: str) -> None:
                self._load_aspired(name)
                try:
                    self._require_available([name])
                    with self.catalog.changed:
                        self._labels.move(self.catalog.models[name], name, wanted[name])
                except FailedPrecondition as exc:
                    problems.append(str(exc))

            self._side_by_side(serve, wanted)
            self._replace({**before, **wanted})
        self.catalog.starting = False
        self._on_change()
        return sorted(problems)

    def reconcile(self) -> None:
        """Looks at the directories once and acts on what changed."""
        with self._reconciling:
            for name in list(self.catalog.models):
                self._load_aspired(name)
                self._unload_unaspired(name)

    def _validated(self, config: Any) -> dict[str, Any]:
        serving = {name: model.config for name, model in self.catalog.models.items() if model.config is not None}
        return models_by_name(config, serving)

    def _replace(self, configs: dict[str, Any]) -> None:
        self._configure(configs)
        for name in list(self.catalog.models):
            self._unload_unaspired(name)

    def _configure(self, configs: dict[str, Any]) -> None:
        with self.catalog.changed:
            for name, config in configs.items():
                model = self.catalog.models.setdefault(name, Model(config))
                model.config = config
                if config is None:
                    model.labels = {}

    def _check_before_change(self, wanted: dict[str, Any]) -> None:
        """Refuses a model set that cannot work, before anything is touched."""
        missing = []
        for name, config in wanted.items():
            existing = scan_versions(local_path(config.base_path))
            chosen = choose_versions(config.model_version_policy, existing or ())
            model = self.catalog.models.get(name)
            if not chosen and not (model and model.available()):
                where = "has no such directory" if existing is None else "holds no version to serve"
                missing.append(f"{{{name}: {config.base_path} {where}}}")
            self._labels.check_before_load(model, name, config, chosen)
        if missing:
            raise FailedPrecondition(f"{len(missing)} model(s) did not become available: {', '.join(missing)}")

    def _require_available(self, wanted: Iterable[str]) -> None:
        failed = []
        for name in wanted:
            model = self.catalog.models[name]
            if not model.available():
                errors = sorted((v.number, v.error_message) for v in model.versions.values() if v.error_code)
                texts = [f"version {number}: {text}" for number, text in errors] or ["no version to serve"]
                failed.append(f"{{{name}: {'; '.join(texts)}}}")
        if failed:
            raise FailedPrecondition(f"{len(failed)} model(s) did not become available: {', '.join(failed)}")

    # From what is loaded to what is asked for.

    @staticmethod
    def _side_by_side(load: Callable[[str], None], names: Iterable[str]) -> None:
        """Loads models at once, so that a small one does not wait for a large one."""
        workers = max(_LEAST_LOADED_AT_ONCE, len(os.sched_getaffinity(0)))
        with ThreadPoolExecutor(workers, "featserve-load") as threads:
            for _ in threads.map(load, names):
                pass

    def _load_aspired(self, name: str) -> None:
        """Loads what the policy asks for; where that fails, what the policy asks for next."""
        while True:
            model = self.catalog.models[name]
            aspired = aspired_versions(name, model)
            todo = sorted(set(aspired or ()) - set(model.available()), reverse=True)
            if not todo or self._stopping.is_set():
                return
            for number in todo:
                self._loader.load(model, Version(name, number, (aspired or {})[number]))

    def _unload_unaspired(self, name: str) -> None:
        model = self.catalog.models[name]
        aspired = aspired_versions(name, model)
        # The directory may have changed since versions were loaded: what has to come first comes with the next look.
        if aspired is None or not aspired.keys() <= set(model.available()):
            return
        for number in model.available():
            if number not in aspired:
                self._loader.unload(model.versions[number])
