"""A stand-in for the images that cannot be pulled: this machine's shell, and the embedded server under the real name.

The image holds what the kit's scripts need. Python and its packages are gigabytes, so containers mount them.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What the scripts, the health check, the Dockerfile and the init container call.
PROGRAMS = (
    "bash",
    "cat",
    "chmod",
    "cp",
    "cut",
    "env",
    "grep",
    "install",
    "mkdir",
    "nproc",
    "sed",
    "sh",
    "sleep",
    "uname",
)
#: Flags of TensorFlow Serving that the embedded server has not.
ALIEN = ("enable_profiler", "platform_config_file")

SERVER = f"""#!/bin/bash
flags=()
for word in "$@"; do
  case $word in --{ALIEN[0]}=* | --{ALIEN[1]}=*) ;; *) flags+=("$word") ;; esac
done
export PYTHONPATH={ROOT / "serving"} PYTHONDONTWRITEBYTECODE=1
exec {sys.executable} -m featserve_serving --runtime=embedded --host=0.0.0.0 "${{flags[@]}}"
"""
#: Python's image, as far as client.Dockerfile needs it: the environment that it makes has the checkout's command.
PYTHON = f"""#!/bin/bash
mkdir -p "$3/bin"
echo '#!/bin/bash' >"$3/bin/pip"
cp "$3/bin/pip" "$3/bin/featserve"
echo 'exec env PYTHONPATH={ROOT / "client"} PYTHONDONTWRITEBYTECODE=1 {sys.executable} -m featserve_client.cli "$@"' \\
  >>"$3/bin/featserve"
chmod 755 "$3/bin/pip" "$3/bin/featserve"
"""


def mounts() -> list[str]:
    """Returns the folders that a container of the stand-in mounts, read-only, where they are here."""
    folders = {"/usr/lib", sys.prefix, sys.base_prefix, str(ROOT / "serving"), str(ROOT / "client")}
    return sorted(folders - {"/usr"})


def archive() -> bytes:
    """Returns the root of the image as a tar file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, mode in {"tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "usr/lib": 0o755, "etc": 0o755}.items():
            _add(tar, name, tarfile.DIRTYPE, mode)
        for name in ("bin", "lib", "lib64"):
            _add(tar, name, tarfile.SYMTYPE, 0o777, link=f"usr/{name}")
        files = {f"usr/bin/{name}": _found(name) for name in PROGRAMS}
        for library in _libraries(files.values()):
            files[_place(library)] = library
        for name, path in files.items():
            _add(tar, name, tarfile.REGTYPE, 0o755, content=path.read_bytes())
        for name, script in {"tensorflow_model_server": SERVER, "python": PYTHON}.items():
            _add(tar, f"usr/bin/{name}", tarfile.REGTYPE, 0o755, content=script.encode())
    return packed.getvalue()


def _found(name: str) -> Path:
    path = shutil.which(name)
    assert path is not None, f"expected {name} on PATH"
    return Path(path).resolve()


def _libraries(programs: object) -> set[Path]:
    found = set()
    for program in programs:  # type: ignore[attr-defined]
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        found |= {Path(word) for word in listed.split() if word.startswith("/")}
    return found


def _place(library: Path) -> str:
    text = str(library).lstrip("/")
    return text if text.startswith("usr/") else f"usr/{text}"


def _add(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, *, link: str = "", content: bytes = b"") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, link, len(content)
    tar.addfile(entry, io.BytesIO(content))
