"""Which workers a node holds, and how a worker's process is set up."""

import subprocess
import sys

import pytest

from sweep.actors.devices import Share, shares_of, trial_share


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"CPU": 2.0, "memory": 1e9}, [Share(1, 0)] * 2),
        ({"CPU": 8.0, "GPU": 1.0}, [Share(1, 0.5)] * 2),
        ({"CPU": 4.0, "GPU": 2.0}, [Share(1, 0.5)] * 4),
        ({"CPU": 1.0, "GPU": 1.0}, [Share(1, 1)]),
        ({"GPU": 2.0}, [Share(0, 1)] * 2),
        ({"CPU": 0.0}, []),
        ({}, []),
    ],
)
def test_workers_of_a_node(resources: dict[str, float], expected: list[Share]) -> None:
    assert shares_of(resources) == expected


def test_a_worker_without_a_whole_cpu_still_has_a_thread() -> None:
    assert Share(cpus=0.5, gpus=0.5).threads == 1
    assert Share(cpus=4, gpus=0).threads == 4


def test_trials_go_to_gpus_where_there_are_any() -> None:
    nodes = [{"CPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}]
    assert trial_share(nodes) == Share(1, 0.5)
    assert trial_share(nodes[:1]) == Share(1, 0)
    assert trial_share([]) == Share(1, 0)


def test_tensorflow_starts_without_keras_and_keras_can_come_later() -> None:
    script = """
import sys
from sweep.actors.devices import configure_tensorflow
configure_tensorflow(3)
assert not [name for name in sys.modules if name.split(".")[0] == "keras"]
import tensorflow as tf
assert tf.config.threading.get_intra_op_parallelism_threads() == 3
import keras
assert keras.ops.convert_to_numpy(keras.layers.Dense(2)(tf.ones((1, 3)))).shape == (1, 2)
configure_tensorflow(3)
assert sys.modules["keras"] is keras
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
