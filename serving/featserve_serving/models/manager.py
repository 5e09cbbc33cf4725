"""Which versions of which models are loaded, and the way from one such state to the next.

A version that the policy asks for is loaded and warmed before any other leaves; one that fails to load is passed over
until its files change, so that the policy falls back to the version that works.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ..errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from ..options import ModelOptions
from .aspired import aspired_versions
from .config_check import models_by_name
from .labels import Labels
from .loader import Loader
from .paths import local_path
from .servable import Servable
from .state import Model, ModelRef, Version, VersionStatus
from .versions import choose_versions, scan_versions

_LOGGER = logging.getLogger(__name__)
_LEAST_LOADED_AT_ONCE = 2


class ModelManager:
    """Loads, swaps and unloads the versions that a `ModelServerConfig` asks for.

    Args:
        options: how models are found and loaded.
        on_change: called after any version changed its state.
        on_load: called with the model, the version and the seconds that it took, after one was loaded.
    """

    def __init__(
        self,
        options: ModelOptions,
        on_change: Callable[[], None] = lambda: None,
        on_load: Callable[[str, int, float], None] = lambda *_: None,
    ) -> None:
        self._options = options
        self._on_change = on_change
        self._models: dict[str, Model] = {}
        self._changed = threading.Condition()  # guards every version and the maps above
        self._reconciling = threading.Lock()
        self._stopping = threading.Event()
        self._starting = True  # until the first models were loaded, as far as they can be
        self._labels = Labels(allow_unavailable=options.allow_labels_for_unavailable)
        self._loader = Loader(options, self._changed, self._stopping, on_change, on_load)
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
            for model in list(self._models.values()):
                for version in list(model.versions.values()):
                    self._loader.unload(version)

    def _poll(self) -> None:
        while not self._stopping.wait(self._options.poll_interval_s):
            try:
                self.reconcile()
            except Exception:
                _LOGGER.exception("looking for new versions failed; the next poll tries again")

    # Requests.

    @contextmanager
    def acquire(self, ref: ModelRef) -> Iterator[tuple[int, Servable]]:
        """Holds a version for the time of a call: `(number, servable)`.

        Raises:
            InvalidArgument: the request names no model, or an unknown label.
            NotFound: the model or the version is not available.
        """
        version = self._take(ref)
        try:
            if version.servable is None:
                raise Unavailable("The version is being unloaded.")
            yield version.number, version.servable
        finally:
            with self._changed:
                version.users -= 1
                if not version.users:
                    self._changed.notify_all()

    def _take(self, ref: ModelRef) -> Version:
        if not ref.name:
            raise InvalidArgument("ModelSpec has no name specified.")
        with self._changed:
            model = self._models.get(ref.name)
            number = ref.version
            if ref.label is not None:
                number = model.labels.get(ref.label) if model else None
                if number is None:
                    raise InvalidArgument(f"Unrecognized servable version label: {ref.label}")
            wanted = f"Latest({ref.name})" if number is None else f"Specific({ref.name}, {number})"
            available = model.available() if model else []
            if model and not available and self._starting and model.is_loading():
                raise Unavailable(f"Model {ref.name} is being loaded; ask again in a moment.")
            if model is None or not available or (number is not None and number not in available):
                raise NotFound(f"Servable not found for request: {wanted}")
            version = model.versions[available[0] if number is None else number]
            version.users += 1
            return version

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Returns the state of each version, newest first.

        Raises:
            NotFound: the model, or the version, was never seen.
        """
        with self._changed:
            versions = self._models[name].versions if name in self._models else {}
            if version is not None and version not in versions:
                raise NotFound(f"Could not find version {version} of model {name}")
            if not versions:
                raise NotFound(f"Could not find any versions of model {name}")
            return [each for each in self._models[name].statuses() if version in (None, each.version)]

    def every_status(self) -> dict[str, list[VersionStatus]]:
        """Returns the state of each version of each model, newest first."""
        with self._changed:
            return {name: model.statuses() for name, model in self._models.items() if model.config or model.versions}

    def available(self) -> dict[str, list[int]]:
        """Returns the available versions of each model, newest first."""
        with self._changed:
            return {name: model.available() for name, model in self._models.items()}

    def every_state(self) -> list[tuple[str, int, int]]:
        """Returns `(model, version, state)` of every version seen."""
        with self._changed:
            return [
                (name, number, int(version.state))
                for name, model in self._models.items()
                for number, version in model.versions.items()
            ]

    def executed_batches(self) -> list[tuple[str, int, list[int]]]:
        """Returns `(model, version, how many batches of each size)` of every available version that batches."""
        batches = []
        for name, numbers in self.available().items():
            for number in numbers:
                with contextlib.suppress(NotFound), self.acquire(ModelRef(name=name, version=number)) as held:
                    if counts := held[1].executed_batches():
                        batches.append((name, number, counts))
        return batches

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
            before = {name: model.config for name, model in self._models.items()}
            self._configure(wanted)
            try:
                self._side_by_side(self._load_aspired, wanted)
                self._require_available(wanted)
                with self._changed:
                    self._labels.check(self._models, wanted)
                    for name, model_config in wanted.items():
                        self._labels.move(self._models[name], name, model_config)
                after = {**dict.fromkeys(before), **wanted}
            except BaseException:
                after = {**dict.fromkeys(wanted), **before}
                raise
            finally:
                self._replace(after)
        self._starting = False
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
            before = dict.fromkeys(self._models)
            self._configure(wanted)

            def serve(name: str) -> None:
                self._load_aspired(name)
                try:
                    self._require_available([name])
                    with self._changed:
                        self._labels.move(self._models[name], name, wanted[name])
                except FailedPrecondition as exc:
                    problems.append(str(exc))

            self._side_by_side(serve, wanted)
            self._replace({**before, **wanted})
        self._starting = False
        self._on_change()
        return sorted(problems)

    def reconcile(self) -> None:
        """Looks at the directories once and acts on what changed."""
        with self._reconciling:
            for name in list(self._models):
                self._load_aspired(name)
                self._unload_unaspired(name)

    def _validated(self, config: Any) -> dict[str, Any]:
        serving = {name: model.config for name, model in self._models.items() if model.config is not None}
        return models_by_name(config, serving)

    def _replace(self, configs: dict[str, Any]) -> None:
        self._configure(configs)
        for name in list(self._models):
            self._unload_unaspired(name)

    def _configure(self, configs: dict[str, Any]) -> None:
        with self._changed:
            for name, config in configs.items():
                model = self._models.setdefault(name, Model(config))
                model.config = config
                if config is None:
                    model.labels = {}

    def _check_before_change(self, wanted: dict[str, Any]) -> None:
        """Refuses a model set that cannot work, before anything is touched."""
        missing = []
        for name, config in wanted.items():
            existing = scan_versions(local_path(config.base_path))
            chosen = choose_versions(config.model_version_policy, existing or ())
            model = self._models.get(name)
            if not chosen and not (model and model.available()):
                where = "has no such directory" if existing is None else "holds no version to serve"
                missing.append(f"{{{name}: {config.base_path} {where}}}")
            self._labels.check_before_load(model, name, config, chosen)
        if missing:
            raise FailedPrecondition(f"{len(missing)} model(s) did not become available: {', '.join(missing)}")

    def _require_available(self, wanted: Iterable[str]) -> None:
        failed = []
        for name in wanted:
            model = self._models[name]
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
            model = self._models[name]
            aspired = aspired_versions(name, model)
            todo = sorted(set(aspired or ()) - set(model.available()), reverse=True)
            if not todo or self._stopping.is_set():
                return
            for number in todo:
                self._loader.load(model, Version(name, number, (aspired or {})[number]))

    def _unload_unaspired(self, name: str) -> None:
        model = self._models[name]
        aspired = aspired_versions(name, model)
        # The directory may have changed since versions were loaded: what has to come first comes with the next look.
        if aspired is None or not aspired.keys() <= set(model.available()):
            return
        for number in model.available():
            if number not in aspired:
                self._loader.unload(model.versions[number])
