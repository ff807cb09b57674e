"""What a device does differently, kept in this one place.

Threads: Ray's own start-up exports OMP_NUM_THREADS=1 on a cluster, so an actor sets its thread counts itself,
from the CPUs Ray gave it. GPUs: TensorFlow would take all of a GPU's memory at start; growth lets several
actors share one. Ray only sets CUDA_VISIBLE_DEVICES and enforces no share of memory. Nothing else in the
package looks at the kind of device.
"""

import os
from dataclasses import dataclass

import ray


@dataclass(frozen=True)
class Share:
    """What one worker takes of the cluster."""

    count: int
    """Workers that fit the cluster."""
    cpus: float
    gpus: float


def share_of_cluster() -> Share:
    """One worker per GPU where the cluster has GPUs, otherwise one per CPU."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    if gpus:
        return Share(count=gpus, cpus=1, gpus=1)
    return Share(count=max(int(resources.get("CPU", 1)), 1), cpus=1, gpus=0)


def configure_tensorflow(threads: int) -> None:
    """Set the process up; must run before TensorFlow computes anything."""
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
