import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(
    ("code", "ci", "fails"),
    [
        ("def test_it(): pytest.skip('this CPU has no VNNI')", "true", False),
        ("def test_it(): pytest.skip('this CPU has no VNNI, perhaps')", "true", True),
        ("def test_it(): pytest.skip('somebody forgot a package')", "true", True),
        ("def test_it(): pytest.skip('somebody forgot a package')", "", False),
        ("pytest.importorskip('no_such_package')\ndef test_it(): pass", "true", True),
    ],
)
def test_an_unexpected_skip_fails_ci(tmp_path: Path, code: str, ci: str, fails: bool, workers: str) -> None:
    (tmp_path / "test_it.py").write_text(f"import pytest\n{code}\ndef test_other(): pass\n", encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "tests.expected_skips", "-n", workers, "-c", "pytest.ini", "."]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": ci}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == (1 if fails else 0), ran.stdout
    assert ("unexpected skip: " in ran.stdout) == fails
