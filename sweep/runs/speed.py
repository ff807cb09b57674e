"""How fast a cluster was when it was measured, and from that what a study's stages are expected to take."""

import json
import os
import platform
from collections.abc import Mapping, Sequence

from sweep.errors import InputError, WorkError
from sweep.keys import key_of
from sweep.lrp import Network
from sweep.plan import Plan
from sweep.stages import STAGES, stage_costs
from sweep.stages.cost import Speed, size_of
from sweep.storage.store import Store, Unit
from sweep.terminal.forecast import Forecast

CALIBRATION = "calibration.json"
"""File under the results root that keeps what was measured, so that a second look costs nothing."""
STARTING = ("features", "finetune", "predictions")
"""Stages before which workers or trials are started on a cluster that was joined; elsewhere only before the first."""
TUNE_SECONDS = 4.0
"""About how long Ray Tune takes to start trials that train in workers."""
REPORT, REPORT_SECONDS = "report", 20.0
"""What ends every run, and about how long it takes on an ordinary CPU: figures, page and MLflow, of any study."""


def known_speeds(root: Store) -> dict[str, Speed]:
    """What was measured so far, by cluster and networks. Raises InputError where the file is not what was written."""
    try:
        return {name: Speed(**measured) for name, measured in json.loads(root.read_file(CALIBRATION)).items()}
    except WorkError:
        return {}
    except (ValueError, TypeError, AttributeError):
        raise InputError(f"{root.root}/{CALIBRATION}: not what sweep wrote; delete it") from None


def name_of_this_machine(plan: Plan) -> str:
    """The name by which a measurement of this machine with the study's networks is kept."""
    return key_of(platform.node(), os.cpu_count(), sorted(one.key for one in plan.backbones.values()))


def forecast(
    plan: Plan, networks: Mapping[str, Network], missing: Sequence[Unit], results: str, joined: bool
) -> Forecast:
    """What the `missing` units of a study are expected to take, stage by stage, and its report.

    Where `sweep plan` has measured this machine the seconds rest on that. Otherwise, and on a cluster that was `joined`,
    only their proportions count: those of an ordinary CPU.
    """
    speed = None
    if not joined:
        try:
            speed = known_speeds(Store(results)).get(name_of_this_machine(plan))
        except InputError:  # a forecast is not worth an error; `sweep plan` tells of it
            speed = None
    measured = speed is not None
    cpus = os.cpu_count() or 1
    assumed = speed or Speed(5e10 * cpus, 1e10 * cpus, 0.05, 10.0, cpus, "assumed")
    absent = set(missing)
    expected, starts = dict[str, float](), dict[str, float]()
    begun = False
    for cost in stage_costs(size_of(plan, networks)):
        units = STAGES[cost.stage].units(plan)
        share = sum(unit in absent for unit in units) / max(1, len(units))
        starts[cost.stage] = 0.0
        if share and cost.stage != "images":  # which the run writes itself
            if cost.stage in STARTING if joined else not begun:
                starts[cost.stage] += assumed.start_seconds
            if cost.stage == "finetune" and not joined:
                starts[cost.stage] += TUNE_SECONDS
            begun = True
        expected[cost.stage] = assumed.seconds(cost) * share + starts[cost.stage]
    expected[REPORT] = REPORT_SECONDS
    return Forecast(expected, measured, starts)
