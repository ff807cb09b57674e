"""A refresh sets aside the last stages first, and is ended by the next run where it was killed."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from sweep.plan import Plan, make_plan
from sweep.runs.refresh import BEGUN, set_replaced_aside
from sweep.stages import STAGES, all_units
from sweep.storage.store import REPLACED, Store
from tests.report.simulated import simulate
from tests.studies import SmallStudy

RENEWED = ("relevance", "similarity", "masking")


@pytest.fixture
def plan(small_study: SmallStudy) -> Plan:
    return make_plan(small_study.path)


def stored(store: Store, table: str) -> int:
    return len(list(Path(store.root, table).glob("*.parquet")))


def test_units_that_the_study_does_not_ask_for_go_as_well(small_study: SmallStudy, plan: Plan) -> None:
    store = Store(str(small_study.path.parent / "root"))
    simulate(plan, store)
    fewer = make_plan(small_study.changed(factors={"seed": [1]}).path)
    set_replaced_aside(store, "relevance")
    kept = [unit for unit in all_units(fewer) if unit.table not in ("relevance", "similarity", "masked")]
    assert store.missing(kept) == []
    for table in ("relevance", "similarity", "masked"):
        assert stored(store, table) == 0
    # Seeds that come back find nothing that rests on maps which are gone.
    assert {unit.table for unit in store.missing(all_units(plan))} == {"relevance", "similarity", "masked"}
    assert len(list(Path(store.root, "masked", REPLACED).iterdir())) == len(STAGES["masking"].units(plan))
    assert not (Path(store.root) / BEGUN).exists()


@pytest.mark.parametrize("killed_at", range(1, 4))
def test_a_refresh_that_was_killed_leaves_nothing_made_from_what_is_gone(
    small_study: SmallStudy, plan: Plan, killed_at: int
) -> None:
    class Killed(Store):
        calls = 0

        def set_aside(self, paths: Iterable[str], folder: str) -> None:
            Killed.calls += 1
            if Killed.calls == killed_at:
                super().set_aside(list(paths)[:1], folder)
                raise KeyboardInterrupt
            super().set_aside(paths, folder)

    root = str(small_study.path.parent / "root")
    simulate(plan, Store(root))
    with pytest.raises(KeyboardInterrupt):
        set_replaced_aside(Killed(root), "relevance")
    store = Store(root)
    whole = [store.missing(STAGES[name].units(plan)) == [] for name in RENEWED]
    assert whole == sorted(whole, reverse=True)
    set_replaced_aside(store, None)
    for name in RENEWED:
        assert store.missing(STAGES[name].units(plan)) == STAGES[name].units(plan)
    set_replaced_aside(store, None)
    assert store.missing(STAGES["finetune"].units(plan)) == []


def test_a_refresh_of_another_stage_ends_the_one_that_was_killed_as_well(
    small_study: SmallStudy, plan: Plan
) -> None:
    class Killed(Store):
        def set_aside(self, paths: Iterable[str], folder: str) -> None:
            raise KeyboardInterrupt

    root = str(small_study.path.parent / "root")
    simulate(plan, Store(root))
    for stage in ("predictions", "similarity"):
        with pytest.raises(KeyboardInterrupt):
            set_replaced_aside(Killed(root), stage)
    set_replaced_aside(Store(root), None)
    for name in STAGES:
        missing = Store(root).missing(STAGES[name].units(plan))
        assert missing == (STAGES[name].units(plan) if name in ("predictions", "similarity") else [])
