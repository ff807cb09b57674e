"""How fast the attached cluster is, found out in some seconds by doing a little of each kind of work."""

import time
from collections.abc import Mapping

import numpy as np
import ray
from ray.exceptions import RayError

from sweep.actors.cluster import share_context
from sweep.actors.nodes import Nodes
from sweep.actors.reasons import last_line
from sweep.actors.root import RootError
from sweep.actors.seats import start_worker
from sweep.errors import WorkError
from sweep.lrp import Network
from sweep.plan import Plan
from sweep.stages.cost import Size, Speed
from sweep.storage.store import Store


def calibrate(plan: Plan, networks: Mapping[str, Network], size: Size, store: Store) -> Speed:
    """Measure every worker that the cluster's living nodes hold, all at the same time.

    Needs a connected cluster. Raises WorkError where no node offers a CPU, or one does not reach the `store`.
    """
    began = time.monotonic()
    context = share_context(plan, networks, store)
    backbone = max(zip(size.pass_flops, plan.backbones, strict=True))[1]
    with store.scratch("calibration") as scratch:
        nodes = Nodes(Store(scratch))
        shares = [
            (node, share)
            for node, resources in nodes.usable().items()
            for share in nodes.shares(node, resources, context.worker_bytes)
        ]
        if not shares:
            raise WorkError(
                "the cluster has no CPU or GPU to measure now; see `ray status`, or use --no-time"
            )
        workers = [start_worker(node, share) for node, share in shares]
        try:
            ray.get([worker.start.remote(nodes.token) for worker in workers])
            start_seconds = time.monotonic() - began
            shared = [ray.put(context)]
            measured = ray.get(
                [
                    worker.measure.remote(shared, backbone, scratch, index)
                    for index, worker in enumerate(workers)
                ]
            )
        except RayError as error:
            if isinstance(cause := getattr(error, "cause", None), RootError):
                raise cause from None
            raise WorkError(f"a worker could not be measured: {last_line(error)}") from None
        finally:
            for worker in workers:
                ray.kill(worker)
    heaviest = max(size.pass_flops)
    return Speed(
        pass_flops=heaviest * sum(one["passes_per_second"] for one in measured),
        other_flops=sum(one["other_flops"] for one in measured),
        unit_seconds=float(np.mean([one["unit_seconds"] for one in measured])),
        start_seconds=start_seconds,
        workers=len(workers),
        basis=f"{len(workers)} workers on {len({node for node, _ in shares})} nodes, measured",
    )
