"""What a server's process imports with TensorFlow."""

import subprocess
import sys

CODE = """
import sys
from featserve_serving.launch.quiet_tensorflow import import_tensorflow
tensorflow = import_tensorflow()
import featserve_serving.server
print(sorted({"keras", "matplotlib"} & set(sys.modules)))
import keras
print(tensorflow.keras.layers.Dense is keras.layers.Dense)
"""


def test_a_server_imports_no_keras_and_leaves_it_to_others():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True"]
