"""Compose with the kit's file: its plugin of docker, or docker-compose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "serving" / "docker" / "compose.yaml"


class Compose:
    """A project of `serving/docker/compose.yaml`.

    Args:
        command: what `find` returns.
        project: its name, which tells its containers from those of others.
        override: what it says beside the kit's file, as a compose file.
        folder: for that file.
        environment: values of the variables in the kit's file.
    """

    def __init__(
        self, command: list[str], project: str, override: dict[str, Any], folder: Path, environment: dict[str, str]
    ) -> None:
        file = folder / "override.json"
        file.write_text(json.dumps(override), encoding="utf-8")
        self._plugin = len(command) > 1
        self._command = [*command, "-p", project, "-f", str(FILE), "-f", str(file), "--profile", "watch"]
        self._environment = {**os.environ, "DOCKER_BUILDKIT": "1", "COMPOSE_DOCKER_CLI_BUILD": "1", **environment}

    def up(self, *services: str) -> None:
        """Builds and starts, as serving/README.md says; docker-compose cannot wait until all is healthy."""
        self.run("up", "--build", "--wait" if self._plugin else "--detach", *services)

    def down(self) -> None:
        """Stops and removes everything, volumes too."""
        self.run("down", "--volumes")

    def container(self, service: str) -> str:
        """Returns the id of a service's container."""
        return self.run("ps", "--quiet", service)

    def log(self) -> str:
        """Returns what all have written."""
        return self.run("logs", "--no-color")

    def run(self, *arguments: str) -> str:
        """Runs a command of Compose; returns what it printed."""
        result = subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert result.returncode == 0, f"compose {arguments[0]}: {result.stdout[-2000:]}{result.stderr[-3000:]}"
        return result.stdout.strip()


def find() -> list[str] | str:
    """Returns the command of Compose, or a sentence that says that there is none."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        result = subprocess.run([*command, "version"], capture_output=True, timeout=60, check=False)
        if result.returncode == 0:
            return command
    return "no Compose: neither docker's plugin nor docker-compose is here"
