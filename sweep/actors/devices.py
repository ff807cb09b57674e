"""What a device does differently, kept in this one place.

Threads: Ray's own start-up exports OMP_NUM_THREADS=1 on a cluster, so an actor sets its thread counts itself,
from the CPUs Ray gave it. GPUs: TensorFlow would take all of a GPU's memory at start; growth lets several
actors share one. Ray only sets CUDA_VISIBLE_DEVICES and enforces no share of memory. Nothing else in the package looks
at the kind of device. Nothing here changes what is computed: precision is `sweep.lrp.precision`'s to guarantee, also for
callers that are no worker.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

WORKERS_PER_GPU = 2
"""Workers that share a GPU, so that one computes while the other reads, ranks and writes."""


@dataclass(frozen=True)
class Share:
    """What one worker, or one Tune trial, takes of its node."""

    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Threads that TensorFlow may use in a worker of this share."""
        return max(1, int(self.cpus))


def shares_of(resources: Mapping[str, float]) -> list[Share]:
    """The workers that a node with these Ray resources holds.

    A node with GPUs holds two workers per GPU, or one where it lacks the CPUs; its other CPUs stay free for them. A
    node without GPUs holds one worker per CPU.
    """
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    if not gpus:
        return [Share(cpus=1, gpus=0)] * int(cpus)
    per_gpu = WORKERS_PER_GPU if cpus >= WORKERS_PER_GPU * gpus else 1
    return [Share(cpus=min(1.0, cpus / (gpus * per_gpu)), gpus=1 / per_gpu)] * (gpus * per_gpu)


def alive_nodes() -> Mapping[str, Mapping[str, float]]:
    """Resources of every living node of the cluster, by node id."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def trial_share(nodes: Sequence[Mapping[str, Any]]) -> Share:
    """What a Tune trial takes: a share of a GPU where any node has one, otherwise a CPU."""
    shares = {share for resources in nodes for share in shares_of(resources)}
    return max(shares, key=lambda share: (share.gpus, share.cpus), default=Share(cpus=1, gpus=0))


def configure_tensorflow(threads: int) -> None:
    """Set the process up; must run before TensorFlow computes anything."""
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow imports Keras at its own start if it can, which takes as long again, and no worker uses it.
    without_keras = "keras" not in sys.modules
    if without_keras:
        sys.modules["keras"] = None  # type: ignore[assignment]
    import tensorflow as tf

    if without_keras:
        del sys.modules["keras"]
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
