"""A container engine, docker or podman, as far as the tests need it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
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
        # The Dockerfile has COPY --chmod, which docker's old builder has not.
        self._environment = {**os.environ, "DOCKER_BUILDKIT": "1"}

    @classmethod
    def find(cls) -> Engine | str:
        """Return an engine that answers, or a sentence that says why there is none."""
        reasons = []
        for command in ("docker", "podman"):
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
        """Run a command of the engine; return what it printed."""
        result = self.attempt(*arguments, stdin=stdin, timeout_s=timeout_s)
        assert result.returncode == 0, f"{self.command} {arguments[0]}: {result.stderr.decode()[-3000:]}"
        return result.stdout.decode().strip()

    def attempt(
        self, *arguments: object, stdin: bytes | None = None, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command of the engine, which may fail."""
        return subprocess.run(
            [self.command, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            env=self._environment,
            check=False,
        )

    def build(self, context: Path, target: str, image: str, **arguments: str) -> str:
        """Build a target of the kit's Dockerfile."""
        given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        file = context / "serving" / "docker" / "Dockerfile"
        return self.run("build", "--network=host", "--target", target, "--tag", image, "--file", file, *given, context)


class Container:
    """A running container on the host's network.

    Args:
        engine: that runs it.
        image: what it is made from.
        options: of the engine's `run`.
    """

    def __init__(self, engine: Engine, image: str, *options: object, command: tuple[object, ...] = ()) -> None:
        self._engine = engine
        self.id = engine.run("run", "--detach", "--network=host", *options, image, *command)

    def inspect(self) -> Any:
        """Return what the engine knows of it."""
        (found,) = json.loads(self._engine.run("inspect", self.id))
        return found

    def wait_until_healthy(self) -> None:
        """Return once its health check succeeds; fail with its log if it ends or takes too long."""

        def healthy() -> bool:
            state = self.inspect()["State"]
            assert state["Status"] != "exited", self.log()
            return bool(state["Health"]["Status"] == "healthy")

        try:
            eventually(healthy, timeout_s=START_S)
        except AssertionError as error:
            raise AssertionError(self.log()) from error

    def run(self, *command: object) -> str:
        """Run a program in it."""
        return self._engine.run("exec", self.id, *command)

    def log(self) -> str:
        """Return what it has written."""
        result = self._engine.attempt("logs", self.id)
        return (result.stdout + result.stderr).decode()

    def stop(self, seconds: int) -> int:
        """Stop it as the engine does, SIGTERM and then patience; return its exit status."""
        self._engine.run("stop", "--time", seconds, self.id, timeout_s=seconds + 60)
        return int(self.inspect()["State"]["ExitCode"])

    def kill(self) -> None:
        """End it at once."""
        self._engine.run("kill", self.id)

    def remove(self) -> None:
        """Remove it, running or not."""
        self._engine.attempt("rm", "--force", self.id)
