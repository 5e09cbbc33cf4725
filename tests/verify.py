"""Exports three backbones, serves them, and replays their golden activations against the running server."""

import argparse
import subprocess
import sys
from pathlib import Path

from local_server import ServerError, served

EXPORTS = {
    "efficientnet_lite0": ["efficientnet_lite0"],
    "mobilenet": ["mobilenet", "--alpha", "0.25"],
    "vgg16": ["vgg16", "--weights", "random", "--layers", "block1_pool,block5_pool"],
}


def main() -> int:
    """Runs the verification; 0 only if every signature and layer of every model agrees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-root", type=Path, default=Path("build/verify"))
    root = parser.parse_args().model_root
    commands = Path(sys.executable).parent
    for name, options in EXPORTS.items():
        if not (root / name / "1").exists():
            export = [
                commands / "featserve-export",
                *options,
                "--model-name",
                name,
                "--model-root",
                root,
                "--version",
                "1",
            ]
            if subprocess.run(export, check=False).returncode:
                return 1
    failed = []
    try:
        with served(f"--model_root={root.resolve()}") as address:
            for name in EXPORTS:
                verify = [commands / "featserve", "verify", root / name / "1", "--server", address, "--model", name]
                if subprocess.run(verify, check=False).returncode:
                    failed.append(name)
    except ServerError as error:
        print(f"verify: {error}", file=sys.stderr)
        return 1
    print(f"failed: {', '.join(failed)}" if failed else "every signature and layer agrees")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
