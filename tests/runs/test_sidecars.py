"""By what units were made: one sidecar per stage, kept through kills and upgrades, and drift told in a line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sweep import __version__
from sweep.plan import Plan, make_plan
from sweep.runs.sidecars import FOLDER, begin_stage, drift, settings, versions
from sweep.stages import STAGES, all_units, stages_of
from sweep.storage.store import Store
from tests.studies import SmallStudy


@pytest.fixture
def plan(small_study: SmallStudy) -> Plan:
    return make_plan(small_study.path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "results"))


NOW = versions()
THEN = replace(NOW, code="0.0.9+abc1234", packages={**NOW.packages, "tensorflow": "2.20.0"})


def test_the_versions_are_those_that_run() -> None:
    assert NOW.packages["numpy"] == np.__version__
    assert NOW.code.startswith(__version__)


def test_a_sidecar_tells_settings_in_full_and_who_made_which_units(plan: Plan, store: Store) -> None:
    units = STAGES["relevance"].units(plan)
    begin_stage(store, plan, "relevance", units, THEN)
    begin_stage(store, plan, "relevance", units[5:], NOW)
    begin_stage(store, plan, "relevance", [], replace(NOW, code="9"))
    content = json.loads(store.read_file(f"{FOLDER}/relevance.json"))
    assert content["settings"]["relevance"]["composite"] == "preset_a_flat"
    assert content["settings"]["finetune"]["epochs"] == 4
    assert content["settings"]["backbones"]["first"]["weights"] == "npz:first.npz"
    assert content["settings"]["dataset"]["input_size"] == 32
    assert "masking" not in content["settings"]
    old, new = content["made_by"]
    assert old["units"] == sorted(unit.key for unit in units[:5])
    assert new["units"] == sorted(unit.key for unit in units[5:])
    assert old["versions"]["packages"]["tensorflow"] == "2.20.0"
    assert set(settings(plan, "masking")) == set(content["settings"]) | {"masking"}


def test_drift_is_a_line_per_stage(plan: Plan, store: Store) -> None:
    for stage in stages_of(plan):
        begin_stage(
            store, plan, stage, STAGES[stage].units(plan), THEN if stage in ("features", "masking") else NOW
        )
    missing = STAGES["masking"].units(plan)[:70]
    first, second = drift(store, plan, missing)
    assert first.startswith("features: 2 of 2 units were stored by tensorflow 2.20.0 (now ")
    assert f"sweep 0.0.9+abc1234 (now {NOW.code})" in first
    assert first.endswith(f"`sweep run {plan.path} --refresh features` makes them again")
    assert second.startswith("masking: 2 of 2 units were stored by ")
    assert drift(store, plan, all_units(plan)) == []


def test_a_damaged_sidecar_says_nothing_and_stops_nothing(plan: Plan, store: Store) -> None:
    begin_stage(store, plan, "features", STAGES["features"].units(plan), THEN)
    store.write_file(f"{FOLDER}/features.json", b"{half")
    assert drift(store, plan, []) == []
    begin_stage(store, plan, "features", STAGES["features"].units(plan), THEN)
    assert len(drift(store, plan, [])) == 1
