"""Prices of the machines that the cluster files name, and how fast their GPUs are taken to be."""

from collections.abc import Mapping
from dataclasses import dataclass

DATED = "mid-2025"
"""When these prices were true, to our knowledge. They change: spot prices by the hour."""
SOURCE = "prices known to us for us-east-1 (AWS) and us-central1 (Google Cloud), without tax; look them up before you rely on them"
SPOT_SHARE = 0.45
"""What a spot machine costs of the price on demand; an assumption, as spot prices differ by place and hour."""


@dataclass(frozen=True)
class Machine:
    """A machine for rent."""

    dollars: float
    """Per hour, on demand."""
    gpu: str | None = None
    """Kind of its GPUs, as `sweep.stages.cost.PEAK_FLOPS` names them."""
    gpus: int = 0


MACHINES: Mapping[str, Machine] = {
    "m6i.large": Machine(0.096),
    "m6i.xlarge": Machine(0.192),
    "m6i.2xlarge": Machine(0.384),
    "g4dn.xlarge": Machine(0.526, "t4", 1),
    "g4dn.12xlarge": Machine(3.912, "t4", 4),
    "g5.xlarge": Machine(1.006, "a10g", 1),
    "g5.2xlarge": Machine(1.212, "a10g", 1),
    "g5.12xlarge": Machine(5.672, "a10g", 4),
    "g6.xlarge": Machine(0.805, "l4", 1),
    "p3.2xlarge": Machine(3.06, "v100", 1),
    "n2-standard-4": Machine(0.194),
    "n2-standard-8": Machine(0.388),
    "g2-standard-4": Machine(0.707, "l4", 1),
    "g2-standard-24": Machine(2.0, "l4", 2),
    "a2-highgpu-1g": Machine(3.673, "a100", 1),
}
"""By the name that a cluster file gives them."""
DISK_DOLLARS: Mapping[str, float] = {"aws": 0.00011, "gcp": 0.000055}
"""Per GB and hour: gp3, and a standard persistent disk."""
ADDRESS_DOLLARS = 0.005
"""Per hour, for the public address that each machine has."""
