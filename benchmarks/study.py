"""Whole studies against the backbone passes they cannot do without; one actor against two; growth; the driver's memory.

    python benchmarks/study.py [--only demo vgg actors growth driver] [--json out.json]

A study's floor is its necessary backbone passes (what `sweep plan` counts) times the time of one plain pass with all cores,
measured in the same run. Start-up (Ray, TensorFlow in each worker, Tune) is taken out and reported apart: of a stage that
begins with cold workers, the time in which units arrived, extended to the first ones, counts as work.
"""

import gc
import io
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import yaml
from rich.console import Console

from benchmarks.common import IMAGENET, ROOT, command_line, face_pixels, interleaved, tell
from sweep.plan import Plan, make_plan
from sweep.stages import STAGES, stage_costs
from sweep.stages.cost import size_of
from sweep.storage.store import Store
from sweep.terminal.progress import Display

COLD = ("features", "finetune", "predictions")
"""Stages that begin with starting processes."""


@dataclass
class Stage:
    """When a stage began, when units arrived, and when it ended; seconds."""

    began: float
    ended: float = 0.0
    arrivals: list[tuple[float, int]] = field(default_factory=list)


class Clock(Display):
    """A display that shows nothing and notes the time of everything."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.stages: dict[str, Stage] = {}
        self._current = ""

    def stage(self, name: str, total: int, stored: int) -> None:
        """Begin a stage."""
        super().stage(name, total, stored)
        self._current = name
        self.stages[name] = Stage(time.monotonic())

    def advance(self, units: int) -> None:
        """Count units."""
        super().advance(units)
        self.stages[self._current].arrivals.append((time.monotonic(), units))

    def finish(self) -> None:
        """End the stage."""
        super().finish()
        self.stages[self._current].ended = time.monotonic()

    def work_seconds(self, name: str, workers: int) -> float:
        """Time of a stage without the start-up of its workers."""
        stage = self.stages[name]
        if name not in COLD or not stage.arrivals:
            return stage.ended - stage.began
        first, last = stage.arrivals[0][0], stage.arrivals[-1][0]
        pieces = len(stage.arrivals)
        # The first piece of each worker arrives after its start-up; the later ones show what a piece takes.
        return (last - first) * pieces / max(pieces - workers, 1) + (stage.ended - last)


def write_study(folder: Path, name: str, **changes: dict[str, Any]) -> Path:
    """The study file of the demo in the paper's way, with blocks changed."""
    content = yaml.safe_load((ROOT / "studies" / "demo-paper.yaml").read_text(encoding="utf-8"))
    content["name"] = name
    for block, own in changes.items():
        content[block] = {**content.get(block, {}), **own}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def run(path: Path, address: str | None = None) -> tuple[Plan, Clock, float]:
    """Run a study into its own folder; its plan, the times, and the seconds it took in all."""
    from sweep.runs.pipeline import run_study

    plan = make_plan(path)
    clock = Clock()
    began = time.monotonic()
    results = str(path.parent / f"results-{path.stem}")
    run_study(plan, Store(f"{results}/{plan.study.name}"), results, clock, address)
    return plan, clock, time.monotonic() - began


def seconds_per_pass(plan: Plan) -> float:
    """A plain forward pass of one image with all cores, the mean over the study's backbones."""
    from sweep.numerics.evaluation import Evaluator

    size = plan.study.dataset.input_size
    times = []
    for name, network in plan.load_networks().items():
        evaluator = Evaluator(network)
        inputs = plan.backbones[name].weights.preprocessing(face_pixels(2 * evaluator.batch, size))
        spent = interleaved({"pass": _all_of(evaluator, inputs)}, rounds=3)["pass"]
        times.append(spent / len(inputs))
    return float(np.mean(times))


def _all_of(evaluator: Any, inputs: Any) -> Callable[[], Any]:
    return lambda: evaluator.features(inputs).numpy()


def over_floor(path: Path) -> dict[str, Any]:
    """A study's time without start-up, as a multiple of its necessary passes."""
    plan = make_plan(path)
    one = seconds_per_pass(plan)
    plan, clock, total = run(path)
    workers = os.cpu_count() or 1
    passes = sum(cost.passes for cost in stage_costs(size_of(plan, plan.load_networks())))
    work = {name: clock.work_seconds(name, workers) for name in clock.stages}
    spent = sum(work.values())
    return {
        "models": len(plan.models),
        "backbone_passes": passes,
        "seconds_per_pass": one,
        "floor_seconds": passes * one,
        "work_seconds": spent,
        "work_seconds_by_stage": work,
        "start_up_and_report_seconds": total - spent,
        "over_floor": spent / (passes * one),
    }


def vgg_study(folder: Path) -> Path:
    """The paper's design on VGG-16 at 112 px, 12 faces with maps."""
    imagenet = f"npz:{IMAGENET}" if IMAGENET.is_file() else "random:2"
    demo = make_plan(ROOT / "studies" / "demo-paper.yaml")
    people = sorted(set(demo.images.table["identity"].to_pylist()))[:12]
    return write_study(
        folder,
        "vgg",
        dataset={"input_size": 112},
        factors={"pretraining": {"imagenet": imagenet, "untrained": "random:1"}},
        relevance={"images": {"where": {"view_deg": 0, "identity": people}}},
    )


def actors(folder: Path) -> dict[str, Any]:
    """Seconds of masking by one worker and by two, each with one thread."""
    from ray.cluster_utils import Cluster

    spent = {}
    for count in (1, 2):
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": count, "include_dashboard": False}
        )
        try:
            path = write_study(folder, f"actors{count}", dataset={"input_size": 64})
            _, clock, _ = run(path, cluster.address)
        finally:
            cluster.shutdown()
        spent[count] = clock.work_seconds("masking", count)
    return {"one_seconds": spent[1], "two_seconds": spent[2], "speedup": spent[1] / spent[2]}


def growth(folder: Path) -> list[dict[str, Any]]:
    """Masking's time as a study doubles in models, images or levels."""
    demo = make_plan(ROOT / "studies" / "demo-paper.yaml")
    people = sorted(set(demo.images.table["identity"].to_pylist()))
    seeds, count, percents = [1, 2, 3], 32, [0.3, 3.0, 30.0]
    cases: dict[str, tuple[list[int], int, list[float]]] = {
        "base": (seeds, count, percents),
        "models": ([*seeds, 4, 5, 6], count, percents),
        "images": (seeds, 2 * count, percents),
        "levels": (seeds, count, [0.1, 0.3, 1, 3, 10, 30]),
    }
    rows: list[dict[str, Any]] = []
    for name, (own_seeds, own_count, own_percents) in cases.items():
        path = write_study(
            folder,
            f"growth-{name}",
            dataset={"input_size": 64},
            finetune={"epochs": 2},
            factors={"seed": own_seeds},
            relevance={"images": {"where": {"view_deg": 0, "identity": people[:own_count]}}},
            masking={"percents": own_percents},
        )
        plan, clock, _ = run(path)
        passes = stage_costs(size_of(plan, plan.load_networks()))[-1].passes
        seconds = clock.work_seconds("masking", os.cpu_count() or 1)
        rows.append(
            {
                "doubled": name,
                "passes": passes,
                "masking_seconds": seconds,
                "ms_per_pass": 1e3 * seconds / passes,
            }
        )
    return rows


def driver_memory() -> list[dict[str, Any]]:
    """Resident memory of a driver that plans a study and hands out its masking, to workers that do nothing.

    The plan, the units, the pieces, Ray and the loop that feeds the workers are the real ones.
    """
    import ray

    from sweep.actors.cluster import share_context

    # There are no maps to rank, and the idle workers never ask for them.
    idle = {"sweep.actors.seats.Worker": _Idle, "sweep.actors.ranks.Rankers.of_maps": lambda *_: None}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as patches:
        for place, instead in idle.items():
            patches.enter_context(patch(place, instead))
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False
        )
        try:
            rows = []
            for models, granularity in ((20, "image"), (200, "image"), (2000, "cell")):
                path = write_study(
                    Path(folder),
                    f"driver{models}",
                    factors={"seed": list(range(models // 4))},
                    masking={"granularity": granularity},
                )
                plan = make_plan(path)
                context = share_context(plan, {}, Store(folder))
                rows.append({"models": models, "granularity": granularity} | _hand_out(plan, context))
                del plan
                gc.collect()
        finally:
            ray.shutdown()
    return rows


def _hand_out(plan: Plan, context: Any) -> dict[str, Any]:

    from sweep.actors.pool import WorkerPool
    from sweep.actors.ranks import Rankers

    handed: list[int] = []
    peak = [0]

    def on_done(units: int) -> None:
        handed.append(units)
        if len(handed) % 50 == 1:
            peak[0] = max(peak[0], _resident())

    units, hand_out = STAGES["masking"].units(plan), STAGES["masking"].pieces
    assert hand_out is not None, "masking has pieces of work"
    with WorkerPool(context) as pool:
        failures = pool.run(hand_out(plan, context.store, set(units), Rankers()), on_done)
    if failures or sum(handed) != len(units):
        raise RuntimeError(f"{sum(handed)} of {len(units)} units were handed out; {len(failures)} failures")
    return {
        "units": len(units),
        "pieces": len(handed),
        "rows": sum(unit.rows for unit in units),
        "driver_megabytes": max(peak[0], _resident()) / 1e6,
    }


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class _Idle:
    """A worker that says it has done what it is given."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def start(self, token: Any) -> int:
        """Answer."""
        return 0

    def ready(self) -> None:
        """Answer."""

    def do(self, context: Any, work: Any) -> Mapping[str, float]:
        """Do nothing."""
        return {}


def measure(only: list[str]) -> dict[str, Any]:
    """The chosen parts."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "driver" in only:
            found["driver"] = driver_memory()
        if "demo" in only:
            found["demo"] = over_floor(write_study(folder, "demo"))
        if "vgg" in only:
            found["vgg"] = over_floor(vgg_study(folder))
        if "actors" in only:
            found["actors"] = actors(folder)
        if "growth" in only:
            found["growth"] = growth(folder)
    return found


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parts = ["driver", "demo", "vgg", "actors", "growth"]
    parser = command_line(__doc__)
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    options = parser.parse_args()
    tell(measure(options.only), options.json)


if __name__ == "__main__":
    main()
