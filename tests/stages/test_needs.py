"""What units are made from: as the workers read it, and what can be made while something is absent."""

import pytest

from sweep.plan import STAGES, Plan, make_plan
from sweep.stages.needs import MADE_FROM, can_be_made, needs, stages_from
from sweep.storage.store import Unit
from tests.studies import SmallStudy


@pytest.fixture
def plan(small_study: SmallStudy) -> Plan:
    return make_plan(small_study.path)


def test_every_unit_of_a_stage_is_named_once_with_units_of_the_stages_before(plan: Plan) -> None:
    for stage in STAGES:
        named = list(needs(plan, stage))
        assert sorted(unit.path for unit, _ in named) == sorted(unit.path for unit in plan.units(stage))
        allowed = {unit for source in MADE_FROM[stage] for unit in plan.units(source)}
        assert all(set(inputs) <= allowed for _, inputs in named)


def test_nothing_waits_where_nothing_is_absent(plan: Plan) -> None:
    units = plan.units("masking")
    assert can_be_made(plan, "masking", units, set()) == (units, [])


def test_what_a_model_that_failed_holds_up(plan: Plan) -> None:
    """By hand: the third model (first-gender-s1 is second, second-identity-s1 third in the factorial)."""
    lost = plan.models[2].id
    assert lost == "second-identity-s1"
    absent: set[Unit] = {plan.model_units[lost]}
    waiting: dict[str, set[str]] = {}
    for stage in ("predictions", "relevance", "similarity", "masking"):
        now, later = can_be_made(plan, stage, plan.units(stage), absent)
        assert sorted(unit.path for unit in [*now, *later]) == sorted(u.path for u in plan.units(stage))
        waiting[stage] = {unit.label for unit in later}
        absent |= set(later)
    assert waiting["predictions"] == {lost}
    assert waiting["relevance"] == {f"{lost}.0000"}
    # Its own pairs with the models before it, and those of every model after it.
    assert waiting["similarity"] == {f"{model.id}.0000" for model in plan.models[2:]}
    # Its masks on anything, and anything's masks on it.
    sources = [*(model.id for model in plan.models), "random-1"]
    assert waiting["masking"] == {
        f"{source}--{model.id}.0000"
        for source in sources
        for model in plan.models
        if lost in (source, model.id)
    }


def test_a_stage_takes_along_what_is_made_from_it() -> None:
    assert stages_from("images") == list(STAGES)
    assert stages_from("finetune") == ["finetune", "predictions", "relevance", "similarity", "masking"]
    assert stages_from("relevance") == ["relevance", "similarity", "masking"]
    for last in ("predictions", "similarity", "masking"):
        assert stages_from(last) == [last]
