import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


SKIP = "import pytest\ndef test_it(): pytest.skip('{}')\n"
IMPORT = "import pytest\npytest.importorskip('no_such_package')\n"


@pytest.mark.parametrize(
    ("code", "ci", "workers", "fails"),
    [
        (SKIP.format("this CPU has no VNNI"), "true", "0", False),
        (SKIP.format("this CPU has no VNNI, perhaps"), "true", "0", True),
        (SKIP.format("a package is not there"), "", "0", False),
        (SKIP.format("a package is not there"), "true", "1", True),
        (IMPORT, "true", "0", True),
        (IMPORT, "true", "1", True),
    ],
)
def test_an_unexpected_skip_fails_ci(tmp_path: Path, code: str, ci: str, workers: str, fails: bool) -> None:
    (tmp_path / "test_it.py").write_text(code, encoding="utf-8")
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n", encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "tests.expected_skips", "-n", workers, "-c", "pytest.ini", "."]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": ci}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == (1 if fails else 0), ran.stdout
    assert ("unexpected skip: " in ran.stdout) == fails
