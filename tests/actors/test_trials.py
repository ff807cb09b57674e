"""Real Tune trials, in processes of their own and in workers: one that fails, however, costs its own model only."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pytest
import ray

from sweep.actors.cluster import share_context
from sweep.actors.pool import WorkerPool
from sweep.actors.trials import finetune
from sweep.plan import Plan, make_plan
from sweep.stages import features
from sweep.stages.finetune import model_units
from sweep.storage.arrays import lists
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import Parts, Store, Unit
from sweep.tracking import Tracker
from tests.chaos.harness import named
from tests.studies import SmallStudy

pytestmark = pytest.mark.chaos

UNREADABLE, UNSTORABLE = "second-identity-s1", "first-identity-s2"


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


class _TwoArgumentError(Exception):
    """Cannot be unpickled."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


class BrokenStore(Store):
    """Cannot write the rows of some models, by errors of which one cannot be unpickled and one not even pickled."""

    def write(self, unit: Unit, rows: pa.Table, schema: pa.Schema, parts: Parts | None = None) -> None:
        if unit.table == "models" and unit.label == UNREADABLE:
            raise _TwoArgumentError("no", "reason")
        if unit.table == "models" and unit.label == UNSTORABLE:
            error = RuntimeError("holds a lock")
            error.lock = threading.Lock()  # type: ignore[attr-defined]
            raise error
        super().write(unit, rows, schema, parts)


def store_features(plan: Plan, store: Store) -> None:
    draws = np.random.default_rng(0)
    for (backbone, c), unit in features.units(plan).items():
        chunk = features.chunks(plan)[c]
        rows = {
            "pretraining": [backbone] * len(chunk),
            "image_id": [plan.images.ids[index] for index in chunk],
            "features": lists(draws.normal(size=(len(chunk), 16)).astype(np.float32)),
        }
        store.write(unit, pa.table(rows), SCHEMAS["features"])


Problems: TypeAlias = dict[str, str]
Finetune: TypeAlias = Callable[[Plan, Store, Callable[[int], None]], Problems]


@pytest.fixture(params=["processes", "workers"])
def finetuned(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Finetune]:
    """Trains all models of a plan in either way."""
    with ExitStack() as stack:

        def train(plan: Plan, store: Store, on_done: Callable[[int], None]) -> Problems:
            at = None
            if request.param == "workers":
                at = stack.enter_context(WorkerPool(share_context(plan, plan.load_networks(), store)))
            tracker = Tracker(plan, str(tmp_path))
            return dict(finetune(plan, plan.models, store, tracker, on_done, at))

        yield train


def test_a_trial_that_fails_costs_its_own_model_only(
    finetuned: Finetune, small_study: SmallStudy, tmp_path: Path
) -> None:
    plan = make_plan(small_study.changed(factors={"task": ["identity"], "seed": [1, 2]}).path)
    store, done = BrokenStore(str(tmp_path / "root")), list[int]()
    store_features(plan, store)
    problems = finetuned(plan, store, done.append)
    assert problems == {UNREADABLE: "_TwoArgumentError: no: reason", UNSTORABLE: "RuntimeError: holds a lock"}
    absent = store.missing(list(model_units(plan).values()))
    assert {unit.label for unit in absent} == set(problems)
    assert sum(done) == 2 * (len(plan.models) - len(problems))


def test_a_trial_that_cannot_start_is_told_by_what_it_lacks(
    finetuned: Finetune, small_study: SmallStudy, tmp_path: Path
) -> None:
    plan = make_plan(small_study.changed(factors={"task": ["identity"], "seed": [1]}).path)
    store = Store(str(tmp_path / "root"))
    store_features(plan, store)
    lost = features.units(plan)["first", 0]
    store.files.delete(lost.path)
    problems = finetuned(plan, store, lambda _: None)
    assert set(problems) == {model.id for model in plan.models if model.cell.pretraining == "first"}
    for problem in problems.values():
        assert problem == f"WorkError: {store.root}/{lost.path}: no such file; run the study again"
    assert {unit.label for unit in store.missing(list(model_units(plan).values()))} == set(problems)


def test_a_worker_that_dies_in_a_training_costs_no_model(small_study: SmallStudy, tmp_path: Path) -> None:
    plan = make_plan(small_study.changed(factors={"task": ["identity"], "seed": [1, 2]}).path)
    store = Store(str(tmp_path / "root"))
    store_features(plan, store)
    before: list[int] = []

    def kill_once() -> None:
        while not (store.files.names("epochs") or ended.is_set()):
            time.sleep(0.02)
        before.extend(named(os.getpid(), "ray::Worker"))
        for process in before:
            os.kill(process, signal.SIGKILL)

    ended = threading.Event()
    killer = threading.Thread(target=kill_once)
    killer.start()
    with WorkerPool(share_context(plan, plan.load_networks(), store)) as pool:
        problems = finetune(plan, plan.models, store, Tracker(plan, str(tmp_path)), lambda _: None, pool)
        ended.set()
        killer.join()
        assert len(before) == 1
        assert not set(before) & set(named(os.getpid(), "ray::Worker"))
    assert problems == []
    assert store.missing(list(model_units(plan).values())) == []


def test_where_a_model_is_trained_changes_none_of_its_weights(
    small_study: SmallStudy, tmp_path: Path
) -> None:
    plan = make_plan(small_study.changed(factors={"task": ["identity"], "seed": [1]}).path)
    weights: list[set[bytes]] = []
    for name in ("workers", "processes"):
        store = Store(str(tmp_path / name))
        store_features(plan, store)
        tracker = Tracker(plan, str(tmp_path))
        with WorkerPool(share_context(plan, plan.load_networks(), store)) as pool:
            at = pool if name == "workers" else None
            assert finetune(plan, plan.models, store, tracker, lambda _: None, at) == []
        weights.append({path.read_bytes() for path in (tmp_path / name / "weights").iterdir()})
    assert weights[0] == weights[1]
    assert len(weights[0]) == len(plan.models)
