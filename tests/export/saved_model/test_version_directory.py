import errno
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tensorflow as tf
from featserve_export import ExportError, InvalidOptionError
from featserve_export.saved_model.version_directory import next_version, staged


def test_the_directory_appears_whole(tmp_path):
    target = tmp_path / "models" / "m" / "1"
    with staged(target.parent) as (staging, becomes):
        assert becomes == target
        (staging / "file").write_text("x")
        assert not target.exists()
        assert not any(path.name.isdecimal() for path in target.parent.iterdir())
    assert [path.name for path in target.parent.iterdir()] == ["1"]
    assert (target / "file").read_text() == "x"
    assert next_version(target.parent) == 2


def test_an_existing_version_is_refused(tmp_path):
    (tmp_path / "m" / "3").mkdir(parents=True)
    with pytest.raises(InvalidOptionError, match="received 3, which is in"), staged(tmp_path / "m", 3):
        pytest.fail("the block ran")
    assert next_version(tmp_path / "m") == 4


def test_a_root_that_cannot_be_made_is_told_as_such():
    with pytest.raises(ExportError, match="cannot write the model root: .*/proc/none"):
        with staged(Path("/proc/none/m"), 1):
            pytest.fail("the block ran")


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "m", 1) as (staging, _):
        (staging / "half").write_text("x")
        raise ZeroDivisionError
    assert not (tmp_path / "m").exists()


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="choose another with --model-root"), staged(tmp_path / "file" / "m", 1):
        pytest.fail("the block ran")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        tf.errors.ResourceExhaustedError(None, None, "variables: No space left on device"),
    ],
)
def test_a_full_disk_is_told(tmp_path, error):
    with pytest.raises(ExportError, match="no space left for"), staged(tmp_path / "m", 1):
        raise error
    assert not (tmp_path / "m").exists()


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from featserve_export.saved_model.version_directory import staged\n"
        "with staged(Path(sys.argv[1]), 1) as (staging, _):\n"
        "    (staging / 'half').write_text('x'); print('ready', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "m")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        (left,) = (tmp_path / "m").iterdir()
        with staged(tmp_path / "m", 2):
            assert left.exists(), "another export's directory was removed while it ran"
        process.send_signal(signal.SIGKILL)
    assert left.exists() and not left.name.isdecimal()
    with staged(tmp_path / "m", 3):
        assert not left.exists()
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["2", "3"]


def test_many_exports_at_once(tmp_path):
    failures = []

    def export(version):
        try:
            with staged(tmp_path / "m", version) as (staging, _):
                (staging / "file").write_text(str(version))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=export, args=[1 + index // 2]) for index in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(path.name) for path in (tmp_path / "m").iterdir()) == list(range(1, 17))
    assert all(isinstance(failure, ExportError) for failure in failures), failures
    assert all((tmp_path / "m" / str(v) / "file").read_text() == str(v) for v in range(1, 17))


def test_exports_at_once_take_numbers_of_their_own(tmp_path):
    barrier = threading.Barrier(8)

    def export(_):
        barrier.wait()
        with staged(tmp_path / "m") as (staging, directory):
            (staging / "file").write_text(directory.name)
            barrier.wait()
        return int(directory.name)

    with ThreadPoolExecutor(8) as pool:
        # Two that wanted the same number have both left it to the next export.
        versions = set(pool.map(export, range(8)))
    assert len(versions) == 8
    assert all((tmp_path / "m" / str(v) / "file").read_text() == str(v) for v in versions)


def test_a_version_that_is_being_written_is_refused_at_once(tmp_path):
    with staged(tmp_path / "m", 5):
        with pytest.raises(InvalidOptionError, match="received 5 in"), staged(tmp_path / "m", 5):
            pytest.fail("the block ran")
        assert next_version(tmp_path / "m") == 6
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["5"]


@pytest.mark.parametrize("error", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_will_do(tmp_path, monkeypatch, error):
    """As network file systems answer for a directory."""

    def refuse(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("fcntl.lockf", refuse)
    for version in (1, None):
        with staged(tmp_path / "m", version) as (staging, _):
            (staging / "file").write_text("x")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["1", "2"]
