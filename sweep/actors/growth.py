"""Asking an autoscaling cluster for more nodes while work waits."""

from typing import Any

import ray

AT_ONCE = 4
"""How many more nodes of a kind are asked for at a time."""


class Growth:
    """Tasks that a full cluster can place on new nodes only, so that the autoscaler starts some.

    Unlike a standing request to the autoscaler they end with the driver, so no node is held for a run that is gone.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[Any]] = {"CPU": [], "GPU": []}

    def ask(self, wanted: int) -> None:
        """Keep so many tasks waiting for each kind of node."""
        for kind, tasks in self._waiting.items():
            if tasks:
                _, self._waiting[kind] = ray.wait(tasks, num_returns=len(tasks), timeout=0)
            while len(self._waiting[kind]) < wanted:
                remote: Any = ray.remote(num_cpus=int(kind == "CPU"), num_gpus=int(kind == "GPU"))(_nothing)
                self._waiting[kind].append(remote.remote())

    def stop(self) -> None:
        """Ask for no more."""
        for tasks in self._waiting.values():
            while tasks:
                ray.cancel(tasks.pop())


def _nothing() -> None:
    """Do nothing: the task runs once there is room for it."""
