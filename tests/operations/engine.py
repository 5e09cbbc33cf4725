"""A container engine, docker or podman, as far as the tests need it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..waiting import eventually

#: Seconds from the start of a container to healthy.
START_S = 180


class Engine:
    """The engine's command.

    Args:
        command: `docker` or `podman`.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        # The Dockerfile has COPY --chmod, which docker's old builder has not. Podman leaves health checks to systemd's
        # timers, and starts no container that has one where there is no systemd: here the tests run them.
        self._environment = {**os.environ, "DOCKER_BUILDKIT": "1", "DISABLE_HC_SYSTEMD": "true"}

    @classmethod
    def find(cls) -> Engine | str:
        """Returns an engine that answers, or a sentence that says why there is none.

        `CONTAINER_ENGINE` names the one to take where there are several.
        """
        reasons = []
        for command in os.environ.get("CONTAINER_ENGINE", "docker podman").split():
            if shutil.which(command) is None:
                reasons.append(f"{command} is not on PATH")
                continue
            result = subprocess.run([command, "info"], capture_output=True, text=True, timeout=60, check=False)
            # Docker's command says so even where its daemon does not answer.
            if result.returncode == 0 and "Cannot connect" not in result.stdout + result.stderr:
                return cls(command)
            reasons.append(f"{command} does not answer")
        return f"no container engine: {', '.join(reasons)}"

    def run(self, *arguments: object, stdin: bytes | None = None, timeout_s: float = 300) -> str:
        """Runs a command of the engine; returns what it printed."""
        result = self.attempt(*arguments, stdin=stdin, timeout_s=timeout_s)
        assert result.returncode == 0, f"{self.command} {arguments[0]}: {result.stderr.decode()[-3000:]}"
        return result.stdout.decode().strip()

    def attempt(
        self, *arguments: object, stdin: bytes | None = None, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a command of the engine, which may fail."""
        return subprocess.run(
            [self.command, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            env=self._environment,
            check=False,
        )

    def has_limits(self) -> bool:
        """Whether the engine holds containers to limits; rootless podman cannot with control groups of version 1."""
        if self.command != "podman":
            return True
        return self.run("info", "--format", "{{.Host.Security.Rootless}} {{.Host.CgroupsVersion}}") != "true v1"

    def says_healthy(self, container: str, state: Any) -> bool:
        """Whether a container's health check has succeeded; `state` is what `inspect` says of it."""
        if self.command == "podman":
            result = self.attempt("healthcheck", "run", container)
            assert result.returncode in (0, 1), result.stderr.decode()
            return result.returncode == 0
        return bool(state["Health"]["Status"] == "healthy")

    def build(self, context: Path, target: str, image: str, **arguments: str) -> str:
        """Builds a target of the kit's Dockerfile."""
        given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        file = context / "serving" / "docker" / "Dockerfile"
        # Podman's own format of images has no health check.
        form = ("--format=docker",) if self.command == "podman" else ()
        options = ("--network=host", *form, "--target", target, "--tag", image, "--file", file)
        return self.run("build", *options, *given, context)


@dataclass(frozen=True)
class Container:
    """A running container.

    Args:
        engine: that runs it.
        id: by which the engine knows it.
    """

    engine: Engine
    id: str

    @classmethod
    def start(cls, engine: Engine, image: str, *options: object, command: tuple[object, ...] = ()) -> Container:
        """Starts one on the host's network; `options` are of the engine's `run`."""
        return cls(engine, engine.run("run", "--detach", "--network=host", *options, image, *command))

    def inspect(self) -> Any:
        """Returns what the engine knows of it."""
        (found,) = json.loads(self.engine.run("inspect", self.id))
        return found

    def wait_until_healthy(self) -> None:
        """Returns once its health check succeeds; fails with its log if it ends or takes too long."""

        def healthy() -> bool:
            state = self.inspect()["State"]
            assert state["Status"] != "exited", self.log()
            return self.engine.says_healthy(self.id, state)

        try:
            eventually(healthy, timeout_s=START_S)
        except AssertionError as error:
            raise AssertionError(self.log()) from error

    def run(self, *command: object) -> str:
        """Runs a program in it."""
        return self.engine.run("exec", self.id, *command)

    def log(self) -> str:
        """Returns what it has written."""
        result = self.engine.attempt("logs", self.id)
        return (result.stdout + result.stderr).decode()

    def stop(self, seconds: int) -> int:
        """Stops it as the engine does, SIGTERM and then patience; returns its exit status."""
        self.engine.run("stop", "--time", seconds, self.id, timeout_s=seconds + 60)
        return int(self.inspect()["State"]["ExitCode"])

    def kill(self) -> None:
        """Ends it at once."""
        self.engine.run("kill", self.id)

    def remove(self) -> None:
        """Removes it, running or not."""
        self.engine.attempt("rm", "--force", self.id)
