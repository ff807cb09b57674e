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
from dataclasses import dataclass, replace
from pathlib import Path

import ray

WORKERS_PER_GPU = 2
"""Workers that share a GPU, so that one computes while the other reads, ranks and writes."""


@dataclass(frozen=True)
class Share:
    """What one worker, or one Tune trial, takes of its node."""

    cpus: float
    gpus: float
    memory: int = 0
    """Bytes, as far as the node says how many it has; Ray counts them and enforces none."""

    @property
    def threads(self) -> int:
        """Threads that TensorFlow may use in a worker of this share."""
        return max(1, int(self.cpus))


def shares_of(resources: Mapping[str, float], worker_bytes: int = 0) -> list[Share]:
    """The workers that a node with these Ray resources holds, where each takes so much memory.

    A node with GPUs holds two workers per GPU, or one where it lacks the CPUs or the memory; its other CPUs stay free
    for them. A node without GPUs holds one worker per CPU; where fewer fit into its memory they share the CPUs. One
    worker is always tried.
    """
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    memory = resources.get("memory", 0.0)
    fitting = max(1, int(memory // worker_bytes)) if memory and worker_bytes else sys.maxsize
    own = int(min(worker_bytes, memory))
    if not gpus:
        count = min(int(cpus), fitting)
        return [Share(cpus=int(cpus) // count, gpus=0, memory=own)] * count if count else []
    crowded = cpus < WORKERS_PER_GPU * gpus or fitting < WORKERS_PER_GPU * gpus
    per_gpu = 1 if crowded else WORKERS_PER_GPU
    share = Share(cpus=min(1.0, cpus / (gpus * per_gpu)), gpus=1 / per_gpu, memory=own)
    return [share] * min(gpus * per_gpu, fitting)


def alive_nodes() -> Mapping[str, Mapping[str, float]]:
    """Resources of every living node of the cluster, by node id."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def trial_share(nodes: Sequence[Mapping[str, float]], trial_bytes: int = 0) -> Share:
    """What a Tune trial takes: a share of a GPU where any node has one, otherwise a CPU.

    Ray starts no more trials on a node than fit into its memory; the largest node holds one in any case.
    """
    offers = [(share, resources.get("memory", 0.0)) for resources in nodes for share in shares_of(resources)]
    best = max((share for share, _ in offers), key=lambda own: (own.gpus, own.cpus), default=Share(1, 0))
    largest = max((memory for share, memory in offers if share == best), default=0.0)
    return replace(best, memory=int(min(trial_bytes, largest)))


def oom_kills() -> int:
    """How many processes this machine's kernel has killed for want of memory; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


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
