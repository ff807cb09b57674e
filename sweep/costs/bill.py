"""Hours and money by type of machine, and what it adds that spot machines are taken back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sweep.costs.cluster_file import ClusterFile, NodeType
from sweep.costs.spot import Fleet, StageWork, simulate
from sweep.keys import generator
from sweep.stages.cost import Speed, StageCost

START_SECONDS = 600.0
"""What a machine takes from being asked for until it works: booting, and installing 7 GB; an assumption."""
HOUR = 3600.0
RUNS = 500
"""How many times interruptions are drawn."""


@dataclass(frozen=True)
class Item:
    """What machines of one type cost."""

    node_type: NodeType
    machines: int
    hours: float
    """Of each of them, from its start to its end."""

    @property
    def dollars(self) -> float:
        """In all."""
        return self.machines * self.hours * self.node_type.dollars


@dataclass(frozen=True)
class Added:
    """What interruptions add to a study."""

    hours: float
    dollars: float


@dataclass(frozen=True)
class Bill:
    """What a study costs on a cluster, from `ray up` to `ray down` right after its end."""

    items: tuple[Item, ...]
    """The head, then the workers; nothing is taken back."""
    mean: Added
    """What interruptions add on average."""
    worst: Added
    """What they add in one study out of twenty, or more."""
    per_hour: float
    """How often a spot machine was taken to be taken back, per hour."""

    @property
    def dollars(self) -> float:
        """In all, without interruptions."""
        return sum(item.dollars for item in self.items)


def bill(costs: Sequence[StageCost], speed: Speed, cluster: ClusterFile, per_hour: float) -> Bill:
    """The bill of a study whose stages cost so much, at the speed of all the cluster's workers together.

    `per_hour` is how often a spot machine is taken back. Draws depend on the numbers of the study and nothing else.
    """
    machines = cluster.workers.most
    starting = StageWork(machines * speed.start_seconds, speed.start_seconds)
    stages = [starting] * 3
    for cost in costs:
        work = machines * speed.seconds(cost)
        stages.append(StageWork(work, work / max(cost.units, 1)))
    fleet = Fleet(machines, START_SECONDS, per_hour / HOUR if cluster.workers.spot else 0.0)
    least, _ = simulate(stages, replace(fleet, rate=0.0), generator("no interruptions"))
    items = _items(cluster, least)
    added = np.zeros((2, RUNS))
    if fleet.rate:
        for run in range(RUNS):
            draws = generator("interruptions", round(least), machines, per_hour, run)
            seconds, _ = simulate(stages, fleet, draws)
            more = _items(cluster, seconds)
            added[:, run] = (
                (seconds - least) / HOUR,
                sum(item.dollars for item in more) - sum(item.dollars for item in items),
            )
    mean, worst = added.mean(axis=1), np.quantile(added, 0.95, axis=1)
    return Bill(items, Added(*mean.tolist()), Added(*worst.tolist()), per_hour)


def _items(cluster: ClusterFile, seconds: float) -> tuple[Item, ...]:
    """What is paid where the machines are asked for, and done after so many seconds.

    One that is taken back is paid for until then, and its successor from then on.
    """
    hours = (seconds + cluster.idle_seconds) / HOUR
    return (
        Item(cluster.head, 1, hours + START_SECONDS / HOUR),
        Item(cluster.workers, cluster.workers.most, hours),
    )
