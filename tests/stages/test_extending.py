"""What is added to a study is all that is computed: stored rows are taken over, and equal those of a study made at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sweep.numerics.evaluation import Evaluator
from sweep.plan import Plan, make_plan
from sweep.stages import STAGES, finetune, similarity, with_gaps
from sweep.storage.store import Store
from tests.in_process import missing_pieces, run_in_process
from tests.studies import SmallStudy

PERCENTS = [0, 1, 10, 100]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "results"))


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The counts of removed pixels of every masked pass."""
    seen: list[int] = []
    whole = Evaluator.masked_features

    def counted(self: Evaluator, inputs: Any, replacement: Any, ranks: Any, counts: Any) -> Any:
        seen.extend(counts)
        return whole(self, inputs, replacement, ranks, counts)

    monkeypatch.setattr(Evaluator, "masked_features", counted)
    return seen


NAMES = ("source_id", "destination_id", "percent", "image_id", "model_a", "model_b")


def assert_same(plan: Plan, store: Store, at_once: Store, stage: str) -> None:
    """Equal rows, but for the last bits of logits, which depend on what a pass was shared with."""
    first, second = (
        one.read(STAGES[stage].units(plan)).sort_by(
            [(name, "ascending") for name in NAMES if name in columns]
        )
        for one in (store, at_once)
        for columns in [one.read(STAGES[stage].units(plan)[:1]).column_names]
    )
    for name in first.column_names:
        if pa.types.is_floating(first[name].type):
            np.testing.assert_allclose(first[name].to_numpy(), second[name].to_numpy(), atol=1e-5)
        else:
            assert first[name].to_pylist() == second[name].to_pylist()


@pytest.mark.parametrize("granularity", ["image", "cell"])
def test_a_further_percent_takes_the_other_levels_over(
    small_study: SmallStudy, tmp_path: Path, store: Store, levels: list[int], granularity: str
) -> None:
    masking: dict[str, Any] = {"percents": PERCENTS, "granularity": granularity}
    factors = {"seed": [1], "task": ["identity"]}
    run_in_process(make_plan(small_study.changed(masking=masking, factors=factors).path), store)
    assert set(levels) == {10, 102}
    levels.clear()
    more = make_plan(
        small_study.changed(masking={**masking, "percents": [0, 1, 5, 10, 100]}, factors=factors).path
    )
    run_in_process(more, store)
    assert set(levels) == {51}
    at_once = Store(str(tmp_path / "at once"))
    run_in_process(more, at_once)
    assert_same(more, store, at_once, "masking")
    levels.clear()
    fewer = make_plan(small_study.changed(masking={**masking, "percents": [1, 10]}, factors=factors).path)
    run_in_process(fewer, store)
    assert levels == []


def test_a_model_that_was_missing_joins_and_all_is_as_if_it_had_been_there(
    small_study: SmallStudy, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(small_study.changed(factors={"seed": [1, 2, 3], "task": ["identity"]}).path)
    lost = "first-identity-s2"
    there = with_gaps(plan, {finetune.model_units(plan)[lost]})
    run_in_process(there, store, without=[lost])
    assert store.missing(STAGES["masking"].units(there) + STAGES["similarity"].units(there)) == []

    correlated: list[tuple[str, str]] = []
    whole = similarity.SimilarityPiece._correlations

    def counted(self: Any, store: Store, pairs: set[tuple[str, str]]) -> Any:
        correlated.extend(pairs)
        return whole(self, store, pairs)

    monkeypatch.setattr(similarity.SimilarityPiece, "_correlations", counted)
    run_in_process(plan, store)
    assert correlated
    assert all(lost in pair for pair in correlated)
    at_once = Store(str(tmp_path / "at once"))
    run_in_process(plan, at_once)
    for stage in ("similarity", "masking"):
        assert_same(plan, store, at_once, stage)
    assert missing_pieces(plan, store, "masking") == []
