"""Readings of how busy nodes are, put together so that MLflow gets few."""

import re
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean

EVERY_SECONDS = 10.0
"""How often MLflow is told of a node, as its own system metrics are."""
NOT_IN_NAMES = re.compile(r"[^\w .-]")
"""What MLflow does not take in the name of a metric, and the slash that divides one."""


class NodeUsage:
    """What workers have read since MLflow was last told, by metric."""

    def __init__(self) -> None:
        self._readings: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._told: dict[str, float] = {}

    def add(self, node: str, reading: Mapping[str, float], now: float) -> Mapping[str, float]:
        """Take a worker's reading; returns what is to be told of its node by now, mostly nothing.

        MLflow shows what begins with system/ on a page of its own.
        """
        for name, value in reading.items():
            self._readings[node][name].append(value)
        if now - self._told.get(node, -EVERY_SECONDS) < EVERY_SECONDS:
            return {}
        self._told[node] = now
        return self._taken(node)

    def rest(self) -> Mapping[str, float]:
        """What is left to be told at the end of a stage."""
        return {name: value for node in list(self._readings) for name, value in self._taken(node).items()}

    def _taken(self, node: str) -> dict[str, float]:
        """The largest of peaks, and the mean of everything else."""
        place = f"system/{NOT_IN_NAMES.sub('_', node)}"
        return {
            f"{place}/{name}": max(values) if "peak" in name else fmean(values)
            for name, values in self._readings.pop(node, {}).items()
        }
