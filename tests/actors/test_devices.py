"""Which workers a node holds, and how a worker's process is set up."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.actors.devices import Share, oom_kills, shares_of, trial_share


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


GB = 10**9


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"CPU": 64.0, "memory": 64 * GB}, [Share(4, 0, 4 * GB)] * 16),
        ({"CPU": 8.0, "memory": 11 * GB}, [Share(4, 0, 4 * GB)] * 2),
        ({"CPU": 8.0, "memory": 64 * GB}, [Share(1, 0, 4 * GB)] * 8),
        ({"CPU": 8.0, "memory": 1 * GB}, [Share(8, 0, 1 * GB)]),
        ({"CPU": 8.0}, [Share(1, 0)] * 8),
        ({"CPU": 16.0, "GPU": 4.0, "memory": 64 * GB}, [Share(1, 0.5, 4 * GB)] * 8),
        ({"CPU": 16.0, "GPU": 4.0, "memory": 31 * GB}, [Share(1, 1, 4 * GB)] * 4),
        ({"CPU": 16.0, "GPU": 4.0, "memory": 9 * GB}, [Share(1, 1, 4 * GB)] * 2),
        ({"CPU": 0.0, "memory": 9 * GB}, []),
    ],
)
def test_workers_that_take_four_gigabytes_each(resources: dict[str, float], expected: list[Share]) -> None:
    assert shares_of(resources, 4 * GB) == expected


@given(
    cpus=st.integers(0, 256),
    gpus=st.integers(0, 16),
    memory=st.floats(0, 1e12),
    need=st.integers(0, 10**11),
)
def test_workers_never_take_more_than_their_node_has(cpus: int, gpus: int, memory: float, need: int) -> None:
    shares = shares_of({"CPU": float(cpus), "GPU": float(gpus), "memory": memory}, need)
    assert bool(shares) == bool(cpus or gpus)
    assert sum(share.cpus for share in shares) <= cpus + 1e-9
    assert sum(share.gpus for share in shares) <= gpus
    assert sum(share.memory for share in shares) <= memory
    assert len(shares) == 1 or not memory or len(shares) * need <= memory


def test_a_worker_without_a_whole_cpu_still_has_a_thread() -> None:
    assert Share(cpus=0.5, gpus=0.5).threads == 1
    assert Share(cpus=4, gpus=0).threads == 4


def test_trials_go_to_gpus_where_there_are_any() -> None:
    nodes = [{"CPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}]
    assert trial_share(nodes) == Share(1, 0.5)
    assert trial_share(nodes[:1]) == Share(1, 0)
    assert trial_share([]) == Share(1, 0)
    small, large = {"CPU": 4.0, "memory": 2.0 * GB}, {"CPU": 4.0, "memory": 8.0 * GB}
    assert trial_share([small, large], 3 * GB) == Share(1, 0, 3 * GB)
    assert trial_share([small], 3 * GB) == Share(1, 0, 2 * GB)
    assert trial_share([{"CPU": 4.0}], 3 * GB) == Share(1, 0)


def test_the_kernel_says_how_often_it_ran_out_of_memory() -> None:
    assert oom_kills() >= 0


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
