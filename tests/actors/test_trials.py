"""Real Tune trials: one that fails, however it fails, costs its own model only."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from sweep.actors.trials import finetune
from sweep.plan import Plan, make_plan
from sweep.stages import features
from sweep.stages.finetune import model_units
from sweep.storage.arrays import lists
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import Parts, Store, Unit
from sweep.tracking import Tracker
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


def test_a_trial_that_fails_costs_its_own_model_only(small_study: SmallStudy, tmp_path: Path) -> None:
    plan = make_plan(small_study.changed(factors={"task": ["identity"], "seed": [1, 2]}).path)
    store, done = BrokenStore(str(tmp_path / "root")), list[int]()
    store_features(plan, store)
    problems = dict(finetune(plan, plan.models, store, Tracker(plan, str(tmp_path)), done.append))
    assert problems == {UNREADABLE: "_TwoArgumentError: no: reason", UNSTORABLE: "RuntimeError: holds a lock"}
    absent = store.missing(list(model_units(plan).values()))
    assert {unit.label for unit in absent} == set(problems)
    assert sum(done) == 2 * (len(plan.models) - len(problems))


def test_a_trial_that_cannot_start_is_told_by_what_it_lacks(small_study: SmallStudy, tmp_path: Path) -> None:
    plan = make_plan(small_study.changed(factors={"task": ["identity"], "seed": [1]}).path)
    store = Store(str(tmp_path / "root"))
    store_features(plan, store)
    lost = features.units(plan)["first", 0]
    store.files.delete(lost.path)
    problems = dict(finetune(plan, plan.models, store, Tracker(plan, str(tmp_path)), lambda _: None))
    assert set(problems) == {model.id for model in plan.models if model.cell.pretraining == "first"}
    for problem in problems.values():
        assert problem == f"WorkError: {store.root}/{lost.path}: no such file; run the study again"
    assert {unit.label for unit in store.missing(list(model_units(plan).values()))} == set(problems)
