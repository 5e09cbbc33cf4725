"""A version that is unloaded gives its memory back."""

import shutil
import warnings

import numpy as np
import psutil

SWAPS, SETTLED_AFTER = 20, 3


def test_memory_after_many_swaps_is_that_after_a_few(tmp_path, caller, eventually, server_process):
    import tensorflow as tf

    class Heavy(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.constant(np.random.default_rng(0).random((1600, 1600), np.float32))  # 10 MB

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def add(self, x):
            return {"y": x + tf.reduce_sum(self.weights)}

    module = Heavy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.add})
    base_path = tmp_path / "heavy"
    base_path.mkdir()

    def publish(version):
        shutil.copytree(tmp_path / "saved", base_path / f".{version}")
        (base_path / f".{version}").rename(base_path / str(version))

    publish(1)
    process, port, _ = server_process(
        "--model_name=heavy", f"--model_base_path={base_path}", "--file_system_poll_wait_seconds=1"
    )
    client = caller(f"127.0.0.1:{port}")
    memory = {}
    for version in range(2, SWAPS + 2):
        publish(version)
        eventually(lambda version=version: client.states(model="heavy").get(version, ("",))[0] == "AVAILABLE")
        assert client.predict(1.0, model="heavy")[1] == version
        eventually(lambda version=version: client.states(model="heavy")[version - 1][0] == "END")
        shutil.rmtree(base_path / str(version - 1))
        memory[version - 1] = psutil.Process(process.pid).memory_info().rss
    print({swaps: round(rss / 2**20) for swaps, rss in memory.items()})
    # The least of the last three: what the allocator has not given back yet is no leak.
    assert min(memory[swaps] for swaps in range(SWAPS - 2, SWAPS + 1)) < 1.1 * memory[SETTLED_AFTER]
