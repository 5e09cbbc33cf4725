"""How many arenas the C library makes."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

#: Threads that all allocate before any ends, then the C library's own account, one `heap` for each arena.
PROGRAM = """
import ctypes, sys, threading
from featserve_serving.allocator import hold_few_arenas

hold_few_arenas()
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
together = threading.Barrier(8)

def allocate():
    library.malloc(1000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = ctypes.c_void_p(library.fopen(sys.argv[1].encode(), b"w"))
library.malloc_info(0, file)
library.fclose(file)
"""


@pytest.mark.parametrize(("environment", "arenas"), [({}, 2), ({"MALLOC_ARENA_MAX": "3"}, 3)])
def test_threads_share_two_arenas_unless_the_environment_says_otherwise(tmp_path, environment, arenas):
    inherited = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "account.xml")]
    subprocess.run(command, check=True, env=inherited | environment)
    assert (tmp_path / "account.xml").read_text().count("<heap nr=") == arenas
