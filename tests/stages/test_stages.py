"""The stages: what they are made from, what is left of them around gaps, and what a change of the study keeps."""

from typing import Any

import pytest

from sweep.plan import Plan, make_plan
from sweep.stages import (
    STAGES,
    all_units,
    finetune,
    made_from,
    relevance,
    similarity,
    stages_from,
    stages_of,
    with_gaps,
)
from sweep.storage.store import Unit
from tests.studies import SmallStudy

FAILED = "second-identity-s1"


@pytest.fixture
def plan(small_study: SmallStudy) -> Plan:
    return make_plan(small_study.path)


def labels(plan: Plan, stage: str) -> set[str]:
    return {unit.label for unit in STAGES[stage].units(plan)}


def test_every_unit_of_a_stage_is_named_once_with_units_of_the_stages_before(plan: Plan) -> None:
    for stage in stages_of(plan).values():
        named = list(stage.inputs(plan))
        units = stage.units(plan)
        assert sorted(unit.path for unit, _ in named) == sorted(unit.path for unit in units)
        assert len({unit.path for unit in units}) == len(units)
        allowed = {unit for source in stage.made_from for unit in STAGES[source].units(plan)}
        assert all(set(inputs) <= allowed for _, inputs in named)
        assert {unit.table for unit in units} == set(stage.tables) - {"masked_attributions", "mirrored"}


def test_a_model_that_failed_costs_its_own_rows_only(plan: Plan) -> None:
    """By hand: each other model's pairs, and masks from and on each other model, are as they were."""
    there = with_gaps(plan, {finetune.model_units(plan)[FAILED]})
    assert labels(plan, "predictions") - labels(there, "predictions") == {FAILED}
    assert labels(plan, "relevance") - labels(there, "relevance") == {f"{FAILED}.0000"}
    others = [model.id for model in plan.models if model.id != FAILED]
    assert labels(there, "masking") == {
        f"{source}--{model}.0000" for source in [*others, "random-1"] for model in others
    }
    pairs = {
        (place[0], other.id) for place in similarity.units(there) for other in similarity.others(there, place)
    }
    assert len(pairs) == len(others) * (len(others) - 1) / 2
    assert all(FAILED not in pair for pair in pairs)
    # Pairs of the condition that lacks a model are in units of another key; all other units are the same.
    whole = set(STAGES["similarity"].units(plan))
    assert {unit.label for unit in STAGES["similarity"].units(there) if unit not in whole} <= {
        f"{model}--second-identity.0000" for model in others
    }
    assert set(STAGES["masking"].units(there)) <= set(STAGES["masking"].units(plan))


def test_cells_of_a_model_that_failed_are_left_out_of_their_block(small_study: SmallStudy) -> None:
    plan = make_plan(small_study.changed(masking={"granularity": "cell"}).path)
    there = with_gaps(plan, {finetune.model_units(plan)[FAILED]})
    on_first = [unit for unit in STAGES["masking"].units(there) if "--first." in unit.label]
    on_second = [unit for unit in STAGES["masking"].units(there) if "--second." in unit.label]
    assert {unit.rows for unit in on_first} == {4 * 5}
    assert {unit.rows for unit in on_second} == {3 * 5}
    assert len(on_first) == len(on_second) == 8


def test_maps_that_failed_cost_what_is_made_from_them(plan: Plan) -> None:
    there = with_gaps(plan, {relevance.units(plan)[FAILED, 0]})
    assert labels(there, "predictions") == labels(plan, "predictions")
    assert labels(plan, "masking") - labels(there, "masking") == {
        f"{FAILED}--{model.id}.0000" for model in plan.models
    }
    assert all(place[0] != FAILED for place in similarity.units(there))


def test_what_units_are_made_from_is_found_by_their_paths(plan: Plan) -> None:
    unit = relevance.units(plan)[FAILED, 0]
    assert list(made_from(plan, {unit.path})) == [finetune.model_units(plan)[FAILED]]


FACTORS: dict[str, Any] = {
    "pretraining": {"first": "npz:first.npz", "second": "npz:second.npz"},
    "task": ["identity", "gender"],
    "seed": [1, 3],
}


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": [1, 3, 4]},
        {"seed": [3, 1]},
        {"task": ["gender", "identity"]},
        {"task": ["identity", "gender", "hair"]},
        {"pretraining": dict(reversed(FACTORS["pretraining"].items()))},
        {"pretraining": {"a": "random:1", **FACTORS["pretraining"]}},
    ],
    ids=["a seed", "seeds swapped", "tasks swapped", "a task", "pretrainings swapped", "a pretraining"],
)
def test_a_study_that_is_extended_keeps_every_unit(small_study: SmallStudy, changes: dict[str, Any]) -> None:
    before = all_units(make_plan(small_study.changed(factors=FACTORS).path))
    after = all_units(make_plan(small_study.changed(factors={**FACTORS, **changes}).path))
    assert {unit.path for unit in before} <= {unit.path for unit in after}


def test_cells_are_kept_where_levels_are_swapped(small_study: SmallStudy) -> None:
    small_study.changed(factors=FACTORS, masking={"granularity": "cell"})
    before = all_units(make_plan(small_study.path))
    swapped = {**FACTORS, "task": ["gender", "identity"], "seed": [3, 1]}
    after = all_units(make_plan(small_study.changed(factors=swapped, masking={"granularity": "cell"}).path))
    assert {unit.path for unit in before} == {unit.path for unit in after}


def test_a_seed_below_the_others_renews_pairs_alone(small_study: SmallStudy) -> None:
    before = all_units(make_plan(small_study.changed(factors=FACTORS).path))
    after = {
        unit.path for unit in all_units(make_plan(small_study.changed(factors={"seed": [1, 2, 3]}).path))
    }
    renewed = [unit for unit in before if unit.path not in after]
    assert {unit.table for unit in renewed} == {"similarity"}
    assert all("-s3--" in unit.label for unit in renewed)


def test_a_stage_takes_along_what_is_made_from_it() -> None:
    assert stages_from("images") == list(STAGES)
    assert stages_from("finetune") == [
        "finetune",
        "predictions",
        "relevance",
        "randomized",
        "attributions",
        "similarity",
        "masking",
    ]
    assert stages_from("relevance") == ["relevance", "similarity", "masking"]
    assert stages_from("randomized") == ["randomized", "masking"]
    assert stages_from("attributions") == ["attributions", "masking"]
    for last in ("predictions", "similarity", "masking"):
        assert stages_from(last) == [last]


def test_units_that_nothing_changes_are_derived_once(plan: Plan) -> None:
    assert relevance.units(plan) is relevance.units(plan)
    assert relevance.units(plan) is not relevance.units(with_gaps(plan, set[Unit]()))
