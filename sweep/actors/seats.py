"""One worker on its node: how it is started, and what its errors say."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import (
    ActorUnavailableError,
    ActorUnschedulableError,
    GetTimeoutError,
    ObjectLostError,
    RayError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.actors.devices import Share
from sweep.actors.queue import Task
from sweep.actors.worker import Worker

VERDICT_SECONDS = 30.0
"""How long a worker that does not answer is asked before it is given up without a verdict."""
ANSWER_SECONDS = 5.0
"""How long each time."""
UNREACHABLE = (ActorUnavailableError, ActorUnschedulableError, GetTimeoutError, ObjectLostError)
"""Errors that say of a worker only that it cannot be reached: no piece of work is to blame for them."""


@dataclass(eq=False)
class Seat:
    """A worker on its node."""

    node: str
    share: Share
    actor: Any
    ready: bool = False
    flying: deque[tuple[Any, Task]] = field(default_factory=deque)
    """Its calls in the order in which it does them."""


def start_worker(node: str, share: Share) -> Any:
    """Start a worker on a node; it is not restarted when it dies."""
    actor: Any = ray.remote(
        num_cpus=share.cpus,
        num_gpus=share.gpus,
        memory=share.memory or None,
        max_restarts=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )(Worker)
    return actor.remote(share.threads)


def verdict(seat: Seat, error: RayError) -> RayError:
    """Why a worker is gone: Ray may first say only that it does not answer, and soon after that it has died."""
    until = time.monotonic() + VERDICT_SECONDS
    while isinstance(error, ActorUnavailableError | GetTimeoutError) and time.monotonic() < until:
        try:
            ray.get(seat.actor.ready.remote(), timeout=ANSWER_SECONDS)
            break
        except RayError as later:
            error = later
            time.sleep(0.1)
    return error
