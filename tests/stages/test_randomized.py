"""The control `randomized`: maps of permuted models beside the models' own, in studies that ask for it and in no other."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.analysis.queries import run_query
from sweep.keys import generator, key_of
from sweep.lrp import Conv, Dense, Network, relevance
from sweep.models.network import backbone_network
from sweep.numerics.controls import mask_ranks
from sweep.numerics.masking import Ranking, random_ranks, removal_ranks
from sweep.numerics.readout import Readout
from sweep.plan import Plan, make_plan
from sweep.report.answers import Answers, answers_of
from sweep.report.page import PAGE, write_report
from sweep.report.validation import validation_table, verdict
from sweep.runs.verification import Explained, sample_maps, verify
from sweep.stages import (
    STAGES,
    all_units,
    finetune,
    index_of_study,
    key_of_study,
    masking,
    randomized,
    rows_of_tables,
    stages_of,
    with_gaps,
)
from sweep.stages import relevance as relevance_stage
from sweep.stages.masking import MaskedPiece
from sweep.stages.relevance import RelevancePiece
from sweep.storage.arrays import matrix
from sweep.storage.checksums import write_files
from sweep.storage.index import INDEX
from sweep.storage.store import DAMAGED, Store
from tests.in_process import load, missing_pieces, run_in_process
from tests.studies import SmallStudy, sweep, write_small_study

MASKING: dict[str, Any] = {
    "percents": [0, 1, 10, 31.6, 100],
    "fills": ["mean"],
    "controls": ["randomized", "scattered"],
}


def asked(study: SmallStudy, **changes: Any) -> Plan:
    """A plan of four models that asks for the control, with further changes to its masking."""
    return make_plan(study.changed(factors={"seed": [1]}, masking={**MASKING, **changes}).path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """A study that asks for the control, from beginning to end."""
    folder = tmp_path_factory.mktemp("randomized")
    plan = asked(write_small_study(folder))
    store = Store(str(folder / "results" / "small"))
    write_files(store, {INDEX: index_of_study(plan)})
    run_in_process(plan, store)
    return plan, store


@pytest.fixture(scope="module")
def answers(finished: tuple[Plan, Store]) -> Answers:
    return answers_of(*finished)


def test_a_study_without_it_keeps_its_keys_and_computes_nothing_more(small_study: SmallStudy) -> None:
    stages = ["images", "features", "finetune", "predictions", "relevance", "similarity", "masking"]
    without = make_plan(small_study.path)
    assert list(stages_of(without)) == stages
    assert randomized.units(without) == {}
    assert rows_of_tables(without).keys().isdisjoint({"randomized"})
    # The key as it was before there was this stage.
    assert key_of_study(without) == key_of([sorted(u.key for u in STAGES[s].units(without)) for s in stages])
    controls = ["randomized", "scattered"]
    with_it = make_plan(small_study.changed(masking={"controls": controls}).path)
    before, after = ({unit.path for unit in all_units(plan)} for plan in (without, with_it))
    assert before < after
    assert {path.split("/")[0] for path in after - before} == {"randomized", "masked"}
    assert key_of_study(with_it) != key_of_study(without)


@pytest.mark.parametrize(
    ("draws", "expected"), [({}, 3), ({"control_draws": 2}, 3), ({"control_draws": 5}, 5)]
)
def test_it_is_drawn_three_times_at_least(
    small_study: SmallStudy, draws: dict[str, int], expected: int
) -> None:
    plan = asked(small_study, **draws)
    own = [mask.draw for mask in masking.masks(plan) if mask.control == "randomized"]
    assert own == list(range(1, expected + 1)) * len(plan.models)
    scattered = [mask for mask in masking.masks(plan) if mask.control == "scattered"]
    assert len(scattered) == draws.get("control_draws", 1)
    assert rows_of_tables(plan)["randomized"] == expected * len(plan.models) * len(plan.selected)


def test_a_further_draw_keeps_the_others(small_study: SmallStudy) -> None:
    three, four = ({unit.path for unit in all_units(asked(small_study, control_draws=n))} for n in (3, 4))
    assert three < four


def test_models_on_one_backbone_share_a_permuted_backbone_and_a_pass(
    small_study: SmallStudy, tmp_path: Path
) -> None:
    plan = asked(small_study)
    pieces = missing_pieces(plan, Store(str(tmp_path / "results")), "randomized")
    assert len(pieces) == 3 * 2
    for piece in pieces:
        assert isinstance(piece, RelevancePiece)
        assert piece.permutation is not None
        assert [model.id for model in piece.models] == [
            model.id for model in plan.models if model.cell.pretraining == piece.backbone
        ]
        assert piece.permutation.backbone_key == plan.backbones[piece.backbone].key


def permuted_by_hand(plan: Plan, store: Store, model_id: str, draw: int) -> Network:
    """A model's backbone and readout with every array in the order that its names give."""
    model = plan.model[model_id]
    backbone = plan.backbones[model.cell.pretraining]
    readout = Readout.from_bytes(store.read_weights(finetune.model_units(plan)[model_id]))

    def moved(values: Any, key: str, name: int | str, part: str) -> Any:
        order = generator("permuted weights", key, draw, name, part).permutation(values.size)
        return values.ravel()[order].reshape(values.shape)

    network = backbone_network(backbone.weights.load(), plan.study.dataset.input_size)
    layers: list[Any] = [
        Conv(
            moved(layer.kernel, backbone.key, place, "kernel"), moved(layer.bias, backbone.key, place, "bias")
        )
        if isinstance(layer, Conv)
        else layer
        for place, layer in enumerate(network.layers)
    ]
    kernel, bias = (moved(getattr(readout, part), model.key, "readout", part) for part in ("kernel", "bias"))
    return Network((*layers, Dense(kernel, bias)), network.input_shape)


@pytest.mark.parametrize(("model_id", "draw"), [("first-identity-s1", 1), ("second-gender-s1", 3)])
def test_stored_maps_are_those_of_networks_permuted_by_hand(
    finished: tuple[Plan, Store], model_id: str, draw: int
) -> None:
    plan, store = finished
    images = list(plan.selected)
    model = plan.model[model_id]
    targets = [model.labels[image] for image in images]
    inputs = plan.backbones[model.cell.pretraining].weights.preprocessing(plan.images.pixels[images])
    network = permuted_by_hand(plan, store, model_id, draw)
    expected, logits = relevance(network, inputs, targets, "preset_a_flat", return_logits=True)
    rows = store.read([randomized.units(plan)[model_id, draw, 0]])
    assert set(rows["model_id"].to_pylist()) == {model_id}
    assert set(rows["draw"].to_pylist()) == {draw}
    assert rows["image_id"].to_pylist() == [plan.images.ids[image] for image in images]
    assert rows["target_class"].to_pylist() == [model.classes[target] for target in targets]
    np.testing.assert_allclose(rows["logit"], logits[range(len(images)), targets], rtol=1e-4, atol=1e-5)
    stored = matrix(rows["map"]) * rows["max_abs"].to_numpy()[:, None]
    np.testing.assert_allclose(stored, expected.reshape(len(images), -1), atol=1e-4 * np.abs(expected).max())


def test_masks_go_by_the_permuted_maps(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    units = STAGES["masking"].units(plan)
    store.set_aside((unit.path for unit in units), ".elsewhere")
    try:
        pieces = missing_pieces(plan, store, "masking")
    finally:
        for unit in units:
            store.files.move(f"masked/.elsewhere/{unit.name}", unit.path)
    ranked = {piece.mask: piece.ranks for piece in pieces if isinstance(piece, MaskedPiece)}
    seen = []
    for mask, ranks in ranked.items():
        if mask.control == "randomized":
            rows = store.read([randomized.units(plan)[mask.source, mask.draw, 0]], columns=["map"])
            np.testing.assert_array_equal(ranks, removal_ranks(matrix(rows["map"])))
            seen.append(ranks)
    assert len(seen) == 4 * 3
    assert len({ranks.tobytes() for ranks in seen}) == len(seen)


def test_draws_of_a_network_that_sees_nothing_differ_from_each_other_and_from_the_model() -> None:
    """A permuted network may answer 0 to everything; its map is then constant."""
    maps = np.zeros((2, 16), np.float32)
    ranks = [
        mask_ranks(maps, Ranking("absolute", drawn_for=name), "model", ["a", "b"])
        for name in ("", "model.randomized-1", "model.randomized-2")
    ]
    assert len({one.tobytes() for one in ranks}) == 3
    np.testing.assert_array_equal(ranks[0], random_ranks("model", ["a", "b"], 16))
    np.testing.assert_array_equal(ranks[2], random_ranks("model.randomized-2", ["a", "b"], 16))


def test_draws_are_averaged_in_the_specific_loss(finished: tuple[Plan, Store], answers: Answers) -> None:
    plan, store = finished
    masked = store.read(STAGES["masking"].units(plan)).to_pandas()
    inner = masked[masked["percent"].between(0, 100, inclusive="neither")]
    places = np.log10([1, 10, 31.6])

    def areas(control: str, source: str, destination: str) -> Sequence[float]:
        wanted = inner[
            (inner["control"] == control)
            & (inner["source_id"] == source)
            & (inner["destination_id"] == destination)
        ]
        curves = wanted.groupby(["draw", "percent"])["correct"].mean().unstack()
        return [np.trapezoid(curve, places) / (places[-1] - places[0]) for curve in curves.to_numpy()]

    rows = [row for row in answers.losses.to_pylist() if row["control"] == "randomized"]
    assert len(rows) == 4 * 4
    for row in rows:
        source, destination = row["source_id"], row["destination_id"]
        draws = areas("randomized", source, destination)
        assert row["n_draws"] == len(draws) == 3
        (own,) = areas("none", source, destination)
        assert row["loss"] == pytest.approx(np.mean(draws) - own)


def test_the_report_names_the_control(answers: Answers) -> None:
    assert answers.missing == ()
    # Of the two it has more in common with a mask.
    assert answers.answer_control == "randomized"
    assert "the map of the same network with its weights permuted (fill mean)" in verdict(answers)
    assert {row[2].text for row in validation_table(answers).rows} == {"randomized", "scattered"}
    page = write_report(answers)[PAGE].decode()
    assert (
        "Controls remove as many pixels: the source&#39;s map of the image with its weights permuted (drawn 3 times); "
        "single pixels at random." in page
    )
    assert 'id="permuted_maps"' in page
    first = answers.plan.models[0].id
    correlation = next(row["pearson"] for row in answers.randomized.to_pylist() if row["model_id"] == first)
    assert f"by absolute value: {first} {correlation:.2f}; second-" in page


def test_the_query_correlates_own_and_permuted_maps(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    rows = {row["model_id"]: row for row in run_query("randomized", store.root).to_pylist()}
    assert list(rows) == sorted(model.id for model in plan.models)
    for model in plan.models:
        own = matrix(store.read([relevance_stage.units(plan)[model.id, 0]], columns=["map"])["map"])
        means = []
        for draw in (1, 2, 3):
            unit = randomized.units(plan)[model.id, draw, 0]
            permuted = matrix(store.read([unit], columns=["map"])["map"])
            pairs = zip(np.abs(own), np.abs(permuted), strict=True)
            means.append(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))
        row = rows[model.id]
        assert (row["n_draws"], row["n_maps"], row["n_constant"], row["note"]) == (3, 18, 0, "")
        assert row["pearson"] == pytest.approx(np.mean(means), abs=1e-9)
        assert row["pearson_sd"] == pytest.approx(np.std(means, ddof=1), abs=1e-9)
        assert (row["pearson_min"], row["pearson_max"]) == pytest.approx((min(means), max(means)), abs=1e-9)


def test_maps_that_could_not_be_made_cost_the_masks_made_from_them(small_study: SmallStudy) -> None:
    plan = asked(small_study)
    failed = randomized.units(plan)["first-identity-s1", 2, 0]
    there = with_gaps(plan, {failed})
    lost = set(all_units(plan)) - set(all_units(there))
    assert {unit.label for unit in lost} == {
        f"first-identity-s1.randomized-2--{model.id}.0000" for model in plan.models
    }
    without = with_gaps(plan, {finetune.model_units(plan)["first-identity-s1"]})
    assert all(place[0] != "first-identity-s1" for place in randomized.units(without))


def test_a_map_that_is_lost_is_made_again_as_it_was(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    unit = randomized.units(plan)["second-identity-s1", 1, 0]
    before = store.read([unit])
    store.set_aside([unit.path], DAMAGED)
    (piece,) = missing_pieces(plan, store, "randomized")
    loaded = load(plan, store)
    (made,) = piece.compute(loaded)
    rows = dict(made.rows)
    store.files.move(f"randomized/{DAMAGED}/{unit.name}", unit.path)
    assert made.unit == unit
    assert rows["image_id"].tolist() == before["image_id"].to_pylist()
    np.testing.assert_allclose(rows["max_abs"], before["max_abs"], rtol=1e-5)
    np.testing.assert_allclose(
        rows["map"].flatten().to_numpy().reshape(len(before), -1), matrix(before["map"]), atol=1e-5
    )


def test_verify_samples_permuted_maps_as_well(finished: tuple[Plan, Store]) -> None:
    plan, _ = finished
    everything = sample_maps(plan, 10_000, 0)
    assert {one.name for one in everything} == {
        *(model.id for model in plan.models),
        *(f"{model.id}.randomized-{draw}" for model in plan.models for draw in (1, 2, 3)),
    }
    assert all(sorted(positions) == list(range(6)) for positions in everything.values())


@pytest.mark.reference
def test_innvestigate_finds_the_same_permuted_maps(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    seed = next(
        seed for seed in range(100) if all(one.draw is not None for one in sample_maps(plan, 2, seed))
    )
    found = verify(plan, store, 2, seed)
    assert set(found.rows["model_id"].to_pylist()) == {one.name for one in sample_maps(plan, 2, seed)}
    assert found.max_error < 1e-4


@pytest.mark.reference
def test_innvestigate_makes_them_where_it_makes_the_models_own(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    unit = randomized.units(plan)["first-gender-s1", 2, 0]
    before = store.read([unit])
    store.set_aside([unit.path], DAMAGED)
    (piece,) = missing_pieces(plan, store, "randomized")
    store.files.move(f"randomized/{DAMAGED}/{unit.name}", unit.path)
    assert isinstance(piece, RelevancePiece)
    (made,) = replace(piece, engine="innvestigate").compute(load(plan, store))
    rows = dict(made.rows)
    np.testing.assert_allclose(rows["logit"], before["logit"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        rows["map"].flatten().to_numpy().reshape(len(before), -1), matrix(before["map"]), atol=1e-4
    )


def test_a_run_on_two_workers_makes_the_same_tables(small_study: SmallStudy, tmp_path: Path) -> None:
    plan = make_plan(
        small_study.changed(
            factors={"task": ["identity"], "seed": [1]}, masking={**MASKING, "controls": ["randomized"]}
        ).path
    )
    folder = small_study.path.parent
    run, alone = Store(f"{folder}/results/small"), Store(str(tmp_path / "alone"))
    run_in_process(plan, run, up_to="randomized")
    done = sweep("run", small_study.path, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "randomized: 6/6" in done.stderr
    shown = sweep("status", small_study.path, "--check", cwd=folder).stdout.splitlines()
    assert [line.split() for line in shown if line.startswith("randomized")] == [
        ["randomized", "randomized", "6", "6", "36"]
    ]
    run_in_process(plan, alone)
    for one in (Explained(model.id, draw) for model in plan.models for draw in (1, 2, 3)):
        found, expected = (store.read([one.unit(plan, 0)]) for store in (run, alone))
        assert found["image_id"].to_pylist() == expected["image_id"].to_pylist()
        np.testing.assert_allclose(matrix(found["map"]), matrix(expected["map"]), rtol=1e-3, atol=1e-4)
    found, expected = (store.read(STAGES["masking"].units(plan)) for store in (run, alone))
    for column in ("source_id", "control", "draw", "destination_id", "percent", "image_id"):
        assert found[column].to_pylist() == expected[column].to_pylist()
    np.testing.assert_allclose(found["target_logit"], expected["target_logit"], rtol=1e-3, atol=1e-3)
