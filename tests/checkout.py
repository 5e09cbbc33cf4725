"""A checkout as a new user has it, with the programs of this interpreter in the place of `.venv`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FILES = ("Makefile", "README.md", "pyproject.toml", "constraints.txt", "serving/configs", "tests/demo.py")
_PROGRAMS = ("featserve", "featserve-export", "featserve-serve")


class Checkout:
    """The files that make reads, in a folder of their own.

    Args:
        folder: where they are put.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (*_FILES, "tests/local_server.py"):
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name in _PROGRAMS:
            (programs / name).symlink_to(Path(sys.executable).with_name(name))
        # A link to a virtual environment's interpreter would not find its packages.
        python = programs / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        (folder / ".venv" / ".installed").touch()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("FEATSERVE_", "MAKE", "TF_"))},
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        }

    def run(self, command: str, *, status: int = 0) -> tuple[str, str]:
        """Runs a command line in the folder; returns what it printed, on stdout and on stderr."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr
