"""Which versions of which models are loaded, and the way from one such state to the next.

A version that the policy asks for is loaded and warmed before any other leaves; one that fails to load is passed over
until its files change, so that the policy falls back to the version that works.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf

from ..errors import FailedPrecondition, InvalidArgument, NotFound, RequestError, SetupError, Unavailable
from . import warmup
from .config_check import validated
from .servable import Servable, SessionOptions
from .versions import Fingerprint, choose_versions, fingerprint, scan_versions

_LOGGER = logging.getLogger(__name__)


class State(enum.IntEnum):
    """A version's state, numbered as in `get_model_status.proto`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """The model that a request names: a version, or a label, or else the latest."""

    name: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """One line of a model's status; `error_code` is a canonical status number, 0 where nothing failed."""

    version: int
    state: State
    error_code: int = 0
    error_message: str = ""


@dataclass(frozen=True, kw_only=True)
class ManagerOptions:
    """How models are found and loaded."""

    session: SessionOptions = SessionOptions()
    poll_interval_s: float = 1.0
    max_load_retries: int = 0
    load_retry_interval_s: float = 60.0
    warmup: bool = True
    warmup_iterations: int = 1
    allow_labels_for_unavailable: bool = False


@dataclass
class _Version:
    name: str
    number: int
    path: Path
    state: State = State.START
    error_code: int = 0
    error_message: str = ""
    fingerprint: Fingerprint = ()
    servable: Servable | None = None
    users: int = 0

    def status(self) -> VersionStatus:
        return VersionStatus(
            version=self.number, state=self.state, error_code=self.error_code, error_message=self.error_message
        )


@dataclass
class _Model:
    config: Any | None  # None once a reload has left the model out
    versions: dict[int, _Version] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    unreadable: bool = False  # so that it is said once, not at each poll

    def available(self) -> list[int]:
        return sorted((n for n, v in self.versions.items() if v.state is State.AVAILABLE), reverse=True)


ConfigSource = Callable[[], Any]


class ModelManager:
    """Loads, swaps and unloads the versions that a `ModelServerConfig` asks for.

    Args:
        options: how models are found and loaded.
        on_change: called after any version changed its state.
    """

    def __init__(self, options: ManagerOptions, on_change: Callable[[], None] = lambda: None) -> None:
        self._options = options
        self._on_change = on_change
        self._models: dict[str, _Model] = {}
        self._changed = threading.Condition()  # guards every _Version and the maps above
        self._reconciling = threading.Lock()
        self._stopping = threading.Event()
        self._poller: threading.Thread | None = None

    # The life of the manager.

    def start(self, config: Any, *, each: bool = False) -> list[str]:
        """Load everything that `config` asks for, then keep looking for changes.

        Args:
            config: a `ModelServerConfig`.
            each: do with the models that can be served, if there is one.

        Returns:
            What could not be done.

        Raises:
            SetupError: a model, or with `each` every model, has no version that can be loaded.
        """
        problems: list[str] = []
        try:
            if each:
                problems = self.apply_each(config)
                if not any(self.available().values()):
                    raise SetupError("; ".join(problems))
            else:
                self.apply(config)
        except RequestError as exc:
            raise SetupError(str(exc)) from exc
        if self._options.poll_interval_s > 0:
            self._poller = threading.Thread(target=self._poll, name="featserve-models", daemon=True)
            self._poller.start()
        return problems

    def stop(self) -> None:
        """Unload everything, once the calls that run have ended."""
        self._stopping.set()
        if self._poller:
            self._poller.join()
        with self._reconciling:
            for model in list(self._models.values()):
                for version in list(model.versions.values()):
                    self._unload(version)

    def _poll(self) -> None:
        while not self._stopping.wait(self._options.poll_interval_s):
            try:
                self.reconcile()
            except Exception:
                _LOGGER.exception("looking for new versions failed; the next poll tries again")

    # Requests.

    @contextmanager
    def acquire(self, ref: ModelRef) -> Iterator[tuple[int, Servable]]:
        """Hold a version for the time of a call: `(number, servable)`.

        Raises:
            InvalidArgument: no name, or an unknown label.
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

    def _take(self, ref: ModelRef) -> _Version:
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
            if model is None or not available or (number is not None and number not in available):
                raise NotFound(f"Servable not found for request: {wanted}")
            version = model.versions[available[0] if number is None else number]
            version.users += 1
            return version

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Return the state of each version, newest first.

        Raises:
            NotFound: the model, or the version, was never seen.
        """
        with self._changed:
            versions = self._models[name].versions if name in self._models else {}
            if version is not None and version not in versions:
                raise NotFound(f"Could not find version {version} of model {name}")
            if not versions:
                raise NotFound(f"Could not find any versions of model {name}")
            chosen = sorted(versions, reverse=True) if version is None else [version]
            return [versions[number].status() for number in chosen]

    def available(self) -> dict[str, list[int]]:
        """Return the available versions of each model, newest first."""
        with self._changed:
            return {name: model.available() for name, model in self._models.items()}

    def every_state(self) -> list[tuple[str, int, int]]:
        """Return `(model, version, state)` of every version seen."""
        with self._changed:
            return [
                (name, number, int(version.state))
                for name, model in self._models.items()
                for number, version in model.versions.items()
            ]

    def executed_batches(self) -> list[tuple[str, int, list[int]]]:
        """Return `(model, version, how many batches of each size)` of every available version that batches."""
        batches = []
        for name, numbers in self.available().items():
            for number in numbers:
                with contextlib.suppress(NotFound), self.acquire(ModelRef(name=name, version=number)) as held:
                    if counts := held[1].executed_batches():
                        batches.append((name, number, counts))
        return batches

    # Configuration.

    def apply(self, config: Any) -> None:
        """Change to another model set: load what is new, then move the labels, then unload what is gone.

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
                for name in wanted:
                    self._load_aspired(name)
                self._require_available(wanted)
                self._check_labels(wanted)
                self._move_labels(wanted)
                after = {**dict.fromkeys(before), **wanted}
            except BaseException:
                after = {**dict.fromkeys(wanted), **before}
                raise
            finally:
                self._replace(after)
        self._on_change()

    def apply_each(self, config: Any) -> list[str]:
        """Change to another model set, each model by itself: one that cannot be served holds up no other.

        Returns:
            What could not be done. Another call tries it again.

        Raises:
            InvalidArgument: the configuration contradicts itself.
        """
        problems = []
        with self._reconciling:
            wanted = self._validated(config)
            before = dict.fromkeys(self._models)
            self._configure(wanted)
            for name, model in wanted.items():
                self._load_aspired(name)
                try:
                    self._require_available([name])
                    self._move_labels({name: model})
                except FailedPrecondition as exc:
                    problems.append(str(exc))
            self._replace({**before, **wanted})
        self._on_change()
        return problems

    def reconcile(self) -> None:
        """Look at the directories once and act on what changed."""
        with self._reconciling:
            for name in list(self._models):
                self._load_aspired(name)
                self._unload_unaspired(name)

    def _validated(self, config: Any) -> dict[str, Any]:
        serving = {name: model.config for name, model in self._models.items() if model.config is not None}
        return validated(config, serving)

    def _replace(self, configs: dict[str, Any]) -> None:
        self._configure(configs)
        for name in list(self._models):
            self._unload_unaspired(name)

    def _configure(self, configs: dict[str, Any]) -> None:
        with self._changed:
            for name, config in configs.items():
                model = self._models.setdefault(name, _Model(config))
                model.config = config
                if config is None:
                    model.labels = {}

    def _check_before_change(self, wanted: dict[str, Any]) -> None:
        """Refuse, before anything is touched, what cannot work."""
        missing = []
        for name, config in wanted.items():
            existing = scan_versions(Path(config.base_path))
            chosen = choose_versions(config.model_version_policy, existing or ())
            model = self._models.get(name)
            available = set(model.available()) if model else set()
            if not chosen and not available:
                where = "has no such directory" if existing is None else "holds no version to serve"
                missing.append(f"{{{name}: {config.base_path} {where}}}")
            for label, version in config.version_labels.items():
                moves = model is not None and model.labels.get(label, version) != version
                if version not in available | chosen and (moves or not self._options.allow_labels_for_unavailable):
                    raise _label_error(name, version)
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

    def _move_labels(self, configs: dict[str, Any]) -> None:
        """Let labels name the versions that they should; those that cannot stay where they are.

        Raises:
            FailedPrecondition: some cannot, the first of which is named.
        """
        error = None
        with self._changed:
            for name, config in configs.items():
                model = self._models[name]
                labels = {}
                for label, version in config.version_labels.items():
                    if self._may_name(model, label, version):
                        labels[label] = version
                        continue
                    error = error or _label_error(name, version)
                    if label in model.labels:
                        labels[label] = model.labels[label]
                model.labels = labels
        if error:
            raise error

    def _check_labels(self, configs: dict[str, Any]) -> None:
        with self._changed:
            for name, config in configs.items():
                for label, version in config.version_labels.items():
                    if not self._may_name(self._models[name], label, version):
                        raise _label_error(name, version)

    def _may_name(self, model: _Model, label: str, version: int) -> bool:
        if version in model.available():
            return True
        return self._options.allow_labels_for_unavailable and model.labels.get(label, version) == version

    # From what is loaded to what is asked for.

    def _aspired(self, name: str) -> dict[int, Path] | None:
        """Return the versions to serve, or `None` to leave everything as it is."""
        model = self._models[name]
        if model.config is None:
            return {}
        existing = scan_versions(Path(model.config.base_path))
        if existing is None:
            if not model.unreadable:
                _LOGGER.warning("model %s: %s cannot be read; what is loaded stays", name, model.config.base_path)
            model.unreadable = True
            return None
        model.unreadable = False
        working = {n: path for n, path in existing.items() if not self._failed_before(model.versions.get(n), path)}
        return {n: working[n] for n in choose_versions(model.config.model_version_policy, working)}

    @staticmethod
    def _failed_before(version: _Version | None, path: Path) -> bool:
        return version is not None and version.error_code != 0 and version.fingerprint == fingerprint(path)

    def _load_aspired(self, name: str) -> None:
        """Load what the policy asks for; when that fails, what it asks for next."""
        while True:
            aspired = self._aspired(name)
            model = self._models[name]
            todo = sorted(set(aspired or ()) - set(model.available()), reverse=True)
            if not todo or self._stopping.is_set():
                return
            for number in todo:
                self._load(model, _Version(name, number, (aspired or {})[number]))

    def _load(self, model: _Model, version: _Version) -> None:
        with self._changed:
            model.versions[version.number] = version
        for attempt in range(self._options.max_load_retries + 1):
            if attempt and self._stopping.wait(self._options.load_retry_interval_s):
                return
            version.fingerprint = fingerprint(version.path)
            self._enter(version, State.LOADING)
            started = time.monotonic()
            try:
                os.listdir(version.path)  # TensorFlow says "does not exist" of what it has no right to read
                servable = Servable(version.path, self._options.session)
                try:
                    if self._options.warmup:
                        warmup.replay(servable, version.path, self._options.warmup_iterations)
                except BaseException:
                    servable.close()
                    raise
            except Exception as exc:
                version.error_code, version.error_message = _load_error(exc, version)
                foreseen = isinstance(exc, (tf.errors.OpError, OSError, RequestError))
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
            _LOGGER.info(
                "model %s: version %d is available after %.2f s",
                version.name,
                version.number,
                time.monotonic() - started,
            )
            return
        self._enter(version, State.END)

    def _unload_unaspired(self, name: str) -> None:
        model = self._models[name]
        aspired = self._aspired(name)
        if aspired is None:
            return
        for number in model.available():
            if number not in aspired:
                self._unload(model.versions[number])

    def _unload(self, version: _Version) -> None:
        if version.servable is None:
            return
        self._enter(version, State.UNLOADING)
        with self._changed:
            self._changed.wait_for(lambda: not version.users)
            servable, version.servable = version.servable, None
        servable.close()
        self._enter(version, State.END)
        _LOGGER.info("model %s: version %d is unloaded", version.name, version.number)

    def _enter(self, version: _Version, state: State) -> None:
        with self._changed:
            version.state = state
        self._on_change()


def _label_error(name: str, version: int) -> FailedPrecondition:
    return FailedPrecondition(
        f"Request to assign label to version {version} of model {name}, which is not currently available for inference"
    )


def _load_error(exc: Exception, version: _Version) -> tuple[int, str]:
    """Return the canonical code and a text without the server's paths."""
    code = exc.error_code if isinstance(exc, tf.errors.OpError) else tf.errors.UNKNOWN
    text = exc.message if isinstance(exc, tf.errors.OpError) else str(exc)
    return code, text.replace(str(version.path), f"{version.name}/{version.number}")
