"""What the missing units of masking become: whole blocks of destinations, also around a model that failed."""

from pathlib import Path
from typing import Any

import pytest

from sweep.actors.ranks import Rankers
from sweep.plan import Plan, make_plan
from sweep.stages import STAGES, finetune, masking, with_gaps
from sweep.stages.masking import MaskedPiece
from sweep.storage.store import Store
from tests.report.simulated import simulate
from tests.studies import SmallStudy

FAILED = "second-identity-s1"


@pytest.fixture
def plan(small_study: SmallStudy) -> Plan:
    return make_plan(small_study.changed(factors={"seed": [1, 2]}).path)


@pytest.fixture
def store(plan: Plan, tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "results"))
    simulate(plan, store)
    return store


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """First maps, or name of the random mask, of every ranking that was asked for."""
    asked: list[str] = []

    def of_maps(self: Any, store: Store, maps: Any, ranking: Any) -> str:
        asked.append(maps[0].label)
        return "ranks"

    def of_random(self: Any, mask: str, control: str, keys: Any, size: int) -> str:
        asked.append(mask)
        return "ranks"

    monkeypatch.setattr("sweep.actors.ranks.Rankers.of_maps", of_maps)
    monkeypatch.setattr("sweep.actors.ranks.Rankers.of_random", of_random)
    return asked


def pieces(plan: Plan, store: Store) -> list[MaskedPiece]:
    hand_out = STAGES["masking"].pieces
    assert hand_out is not None
    made = list(hand_out(plan, store, set(store.missing(STAGES["masking"].units(plan))), Rankers()))
    assert all(isinstance(piece, MaskedPiece) for piece in made)
    return [piece for piece in made if isinstance(piece, MaskedPiece)]


def test_a_unit_that_is_missing_brings_its_whole_block_and_one_ranking(
    plan: Plan, store: Store, asked: list[str]
) -> None:
    first, second = masking.masks(plan)[0], masking.masks(plan)[-1]
    lost = [
        unit
        for (mask, _, _, _), units in masking.units(plan).items()
        if mask in (first, second)
        for unit in units[1:2]
    ]
    store.set_aside((unit.path for unit in lost), ".elsewhere")
    made = pieces(plan, store)
    assert [piece.mask for piece in made] == [first, first, second, second]
    assert sorted(unit.path for piece in made for unit in piece.units) == sorted(u.path for u in lost)
    for piece in made:
        (block,) = piece.blocks
        assert [model.id for model in block.destinations] == [
            model.id for model in plan.models if model.cell.pretraining == piece.backbone
        ]
        assert all(model.stored for model in block.destinations)
        assert [one.positions for one in block.wanted] == [(1,)]
    assert asked == [f"{first.source}.0000", second.source]


def test_a_model_that_failed_keeps_its_place_among_the_destinations(
    plan: Plan, store: Store, asked: list[str]
) -> None:
    gone = [finetune.model_units(plan)[FAILED], *STAGES["masking"].units(plan)]
    store.set_aside((unit.path for unit in gone), ".elsewhere")
    for piece in pieces(with_gaps(plan, set(gone)), store):
        for block in piece.blocks:
            assert {model.id for model in block.destinations if not model.stored} == (
                {FAILED} if piece.backbone == "second" else set()
            )
            assert len(block.destinations) == 4
