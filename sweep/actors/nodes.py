"""The nodes of the connected cluster: which of them work may be given to, and what has gone wrong on each.

A node that cannot do this run's work is set aside, so that it does not end what the others can do: one that does not
reach the results root, one where workers die at their start, one whose failed work succeeds elsewhere. One line says
so. The run ends only where no node is left.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.actors.devices import Share, alive_nodes, configure_tensorflow, oom_kills, shares_of
from sweep.actors.reasons import last_line
from sweep.actors.root import SIGHT_SECONDS, RootError, Token, check_root, leave_token
from sweep.errors import WorkError
from sweep.storage.store import Store

ATTEMPTS = 3
"""How often a piece of work is tried, how often in a row workers may die at their start on a node, and how many
pieces in a row may fail on a node and succeed elsewhere."""
PROBE_SECONDS = 60.0
"""How long nodes may take to answer a question; one that does not is not judged by it."""


class Nodes:
    """What one run knows of its cluster's nodes."""

    def __init__(
        self,
        store: Store,
        say: Callable[[str], None] = lambda line: None,
        on_usage: Callable[[str, Mapping[str, float]], None] = lambda node, usage: None,
    ) -> None:
        """`say` is told, in one line each, of nodes that are set aside or get fewer workers.

        `on_usage` is told how busy a node was, by its name, whenever a worker has ended a piece of work.
        """
        self.token: Token = leave_token(store.files)
        self._say, self._on_usage = say, on_usage
        self._hosts: dict[str, str] = {}
        self._aside: set[str] = set()
        self._proven: set[str] = set()
        """Nodes that reach the results root."""
        self._deaths: Counter[str] = Counter()
        """Workers of each node that died in a row before they were ready."""
        self._blemishes: Counter[str] = Counter()
        """Pieces of work that failed on a node and succeeded elsewhere since anything last succeeded there."""
        self._limits: dict[str, int] = {}
        """How many workers a node may have, where more have run out of memory."""
        self._kills: dict[str, int] = {}
        """Kills for want of memory that each node's kernel had counted, as far as they are accounted for."""

    def usable(self) -> dict[str, Mapping[str, float]]:
        """Resources of every living node that is not set aside, by node id."""
        return {node: own for node, own in alive_nodes().items() if node not in self._aside}

    def shares(self, node: str, resources: Mapping[str, float], worker_bytes: int) -> list[Share]:
        """The workers that a node may have now."""
        return shares_of(resources, worker_bytes)[: self.most_workers(node)]

    def most_workers(self, node: str) -> int:
        """How many workers a node may have for all that has happened there."""
        return self._limits.get(node, sys.maxsize)

    def is_aside(self, node: str) -> bool:
        """Whether a node was set aside."""
        return node in self._aside

    @property
    def selector(self) -> dict[str, str]:
        """Ray's label selector for what may run on any node that is not set aside."""
        return {"ray.io/node-id": f"!in({','.join(sorted(self._aside))})"} if self._aside else {}

    def probe(self, *, tensorflow: bool = False) -> None:
        """Set every node aside that does not reach the results root, or where TensorFlow does not start if that is asked.

        A node where a worker was ready needs no probe. Raises WorkError where no node is left.
        """
        proof = _start_tensorflow if tensorflow else check_root
        unknown = [node for node in self.usable() if node not in self._proven]
        asked = {_on(node, proof).remote(self.token): node for node in unknown}
        if not asked:
            return
        for answer in ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)[0]:
            node = asked[answer]
            try:
                ray.get(answer)
                self._proven.add(node)
            except RayError as error:
                if isinstance(cause := getattr(error, "cause", None), RootError):
                    self.set_aside(node, str(cause))
                elif node in self.usable():
                    self.set_aside(node, f"{self.name(node)}: nothing starts there: {last_line(error)}")

    def alone_lost_root(self, node: str) -> bool:
        """Whether a node reaches the results root no longer, while this process does and another node is left."""
        if not self.has_others(node):
            return False
        try:
            check_root(self.token, patience=SIGHT_SECONDS)  # work has waited for the store already
        except RootError:
            return False
        try:
            asked = _on(node, check_root).remote(self.token, patience=SIGHT_SECONDS)
            ray.get(asked, timeout=PROBE_SECONDS)
        except RayError as error:
            return isinstance(getattr(error, "cause", None), RootError)
        return False

    def set_aside(self, node: str, reason: str) -> None:
        """Give a node no more work. Raises WorkError with the reason where no other node is left."""
        if node in self._aside:
            return
        self._aside.add(node)
        if not self.has_others(node):
            raise WorkError(reason)
        self._say(f"{reason}; this node is set aside, the others go on")

    def has_others(self, node: str) -> bool:
        """Whether any node but this one can have a worker."""
        return any(shares_of(resources) for other, resources in self.usable().items() if other != node)

    def started(self, node: str, kills: int) -> None:
        """Take note of a worker that is ready, whose node's kernel has counted so many `kills`."""
        self._proven.add(node)
        self._deaths[node] = 0
        self._kills.setdefault(node, kills)

    def died_at_start(self, node: str, reason: str, ready: int) -> None:
        """Take note of a worker that died before it was ready, beside so many that are; see `set_aside`."""
        self._deaths[node] += 1
        if self._deaths[node] < ATTEMPTS:
            return
        reason = f"{self.name(node)}: workers die at their start: {reason}"
        if ready:
            self._limit(node, ready, reason)
        else:
            self.set_aside(node, reason)

    def succeeded(self, node: str, failed_on: frozenset[str]) -> None:
        """Take note of a piece of work that succeeded on a node after it had failed on others."""
        self._blemishes[node] = 0
        for other in failed_on - {node} - self._aside:
            self._blemishes[other] += 1
            if self._blemishes[other] >= ATTEMPTS and self.has_others(other):
                self.set_aside(other, f"{self.name(other)}: work that fails there succeeds elsewhere")

    def ran_out_of_memory(self, node: str, workers: int) -> None:
        """Let a node have half as many workers as the `workers` that it had, one at least."""
        self._limit(node, max(1, workers // 2), f"{self.name(node)}: out of memory with {workers} workers")

    def _limit(self, node: str, workers: int, reason: str) -> None:
        if workers < self.most_workers(node):
            self._limits[node] = workers
            self._say(f"{reason}; this node goes on with {workers} {'worker' if workers == 1 else 'workers'}")

    def forgive_memory(self) -> None:
        """Let all nodes have as many workers as before: a single piece of work took the memory, and is given up."""
        self._limits.clear()

    def has_killed(self, node: str) -> bool:
        """Whether the node's kernel has killed a process for want of memory that no death was put down to yet."""
        try:
            count = ray.get(_on(node, oom_kills).remote(), timeout=PROBE_SECONDS)
        except RayError:
            return False
        known = self._kills.setdefault(node, count)
        self._kills[node] = min(known + 1, count)
        return bool(count > known)

    def measured(self, node: str, usage: Mapping[str, float]) -> None:
        """A worker on a node says how busy the node is."""
        if node not in self._hosts:
            self._hosts |= {known["NodeID"]: known["NodeManagerHostname"] for known in ray.nodes()}
        self._on_usage(self._hosts.get(node, node), usage)

    def name(self, node: str) -> str:
        """A node as a person knows it."""
        for known in ray.nodes():
            if known["NodeID"] == node:
                return f"node {known['NodeManagerHostname']} ({known['NodeManagerAddress']})"
        return f"node {node}"


def _on(node: str, function: Callable[..., Any]) -> Any:
    """The function as a task that takes no CPU, on this node and no other."""
    return ray.remote(
        num_cpus=0,
        max_retries=ATTEMPTS - 1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )(function)


def _start_tensorflow(token: Token) -> None:
    check_root(token)
    configure_tensorflow(threads=1)
