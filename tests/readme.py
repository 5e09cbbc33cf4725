"""Keeps the `--help` blocks of the README equal to what the commands print: `--check` compares, without it rewrites."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"```console\n\$ (featserve[a-z-]*(?: [a-z]+)* --help)\n.*?```", re.DOTALL)


def rendered(text: str) -> str:
    """The README with every help block as the commands print it now."""
    return BLOCK.sub(lambda block: f"```console\n$ {block[1]}\n{_help(block[1])}```", text)


def _help(command: str) -> str:
    name, *arguments = command.split()
    environment = {**os.environ, "COLUMNS": "110"}
    program = [Path(sys.executable).parent / name, *arguments]
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout


def _words(text: str) -> list[str]:
    # Python's releases wrap a usage line at different places.
    return text.split()


def main() -> int:
    """0 if the README is right, or is now."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    wanted = rendered(text)
    if not check:
        README.write_text(wanted, encoding="utf-8")
        return 0
    if _words(text) != _words(wanted):
        print("README.md: a help block differs from what its command prints; run make readme", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
