"""What a server's process imports of TensorFlow."""

import subprocess
import sys

CODE = """
import sys
from featserve_serving.launch.quiet_library import load_library
load_library()
import featserve_serving.server
print(sorted({"tensorflow", "keras", "matplotlib"} & set(sys.modules)))
import tensorflow
print(int(tensorflow.constant(1) + 1), tensorflow.core if hasattr(tensorflow, "core") else None)
"""


def test_a_server_runs_no_python_of_tensorflow_and_leaves_it_to_others():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "2 None"]
