"""The factor attribution: maps by further methods, masks by them, and nothing else changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from sweep.analysis.queries import run_query
from sweep.attribution.maps import attribution_maps
from sweep.attribution.subject import Subject
from sweep.errors import InputError
from sweep.export.dictionary import description
from sweep.export.tables import csv_path, parquet_path, write_tables
from sweep.lrp import Dense, relevance
from sweep.models.network import joined
from sweep.numerics.controls import mask_ranks
from sweep.numerics.masking import Ranking
from sweep.plan import Plan, make_plan
from sweep.report.answers import answers_of
from sweep.report.exhibits import exhibits
from sweep.report.model_metrics import model_metrics
from sweep.report.page import PAGE, write_report
from sweep.report.page import asked as asked_of
from sweep.stages import (
    all_units,
    attributions,
    columns_of,
    finetune,
    index_of_study,
    masking,
    rows_of_tables,
    stages_of,
    with_gaps,
)
from sweep.stages.masking import Mask
from sweep.storage.arrays import matrix
from sweep.storage.index import INDEX
from sweep.storage.store import Store
from tests.in_process import load, missing_pieces, run_in_process
from tests.report.simulated import simulate
from tests.studies import SmallStudy, write_small_study

LEVELS: dict[str, Any] = {
    "lrp": "preset_a_flat",
    "other_lrp": {"method": "lrp", "composite": "preset_b"},
    "gradient": "gradient",
    "path": {"method": "integrated_gradients", "steps": 2, "baseline": "blur"},
    "smooth": {"method": "smoothgrad", "samples": 2},
    "patches": {"method": "occlusion", "patch": 16, "stride": 16, "fill": "grey"},
    "cam": "grad_cam",
    "chance": "random",
}
MASKING: dict[str, Any] = {
    "percents": [0, 1, 10, 31.6, 100],
    "fills": ["mean"],
    "controls": ["other_image", "scattered"],
}


def asked(study: SmallStudy, levels: Any = None, **masking: Any) -> Plan:
    """A plan of two models on each of two backbones with the factor."""
    factors = {"seed": [1], "attribution": LEVELS if levels is None else levels}
    return make_plan(study.changed(factors=factors, masking={**MASKING, **masking}).path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """A study with the factor, from beginning to end."""
    folder = tmp_path_factory.mktemp("attributions")
    plan = asked(write_small_study(folder))
    store = Store(str(folder / "results" / "small"))
    run_in_process(plan, store)
    store.files.write(INDEX, index_of_study(plan))
    return plan, store


def maps_of(plan: Plan, store: Store, model_id: str, level: str) -> Any:
    rows = store.read([attributions.units(plan)[model_id, level, 0]])
    assert set(rows["attribution"].to_pylist()) == {level}
    assert rows.schema.remove_metadata() == columns_of(plan, "attributions").remove_metadata()
    return matrix(rows["map"]) * np.asarray(rows["max_abs"])[:, None]


@pytest.mark.parametrize("level", ["gradient", "path", "smooth", "patches", "cam", "chance"])
def test_stored_maps_are_those_of_the_method(finished: tuple[Plan, Store], level: str) -> None:
    plan, store = finished
    loaded, model = load(plan, store), plan.models[1]
    reference = finetune.refer(plan, model)
    readout = loaded.readout(reference)
    subject = Subject(
        loaded.network(model.backbone),
        [Dense(kernel=readout.kernel, bias=readout.bias)],
        loaded.inputs(model.backbone, plan.selected),
        loaded.targets(reference, plan.selected)[None],
        [plan.images.keys[index] for index in plan.selected],
        [model.key],
    )
    method = plan.study.factors.attribution[level]
    maps = attribution_maps(method, subject, lambda fill: loaded.filled(model.backbone, plan.selected, fill))[
        0
    ].reshape(len(plan.selected), -1)
    found = maps_of(plan, store, model.id, level)
    assert np.abs(found - maps).max() <= 1e-4 * np.abs(maps).max()
    logits = store.read([attributions.units(plan)[model.id, level, 0]])["logit"]
    assert np.asarray(logits) == pytest.approx(subject.target_logits(subject.images)[0], rel=1e-4)


def test_a_further_composite_is_that_composite(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    loaded, model = load(plan, store), plan.models[0]
    reference = finetune.refer(plan, model)
    readout = loaded.readout(reference)
    network = joined(loaded.network(model.backbone), Dense(kernel=readout.kernel, bias=readout.bias))
    inputs = loaded.inputs(model.backbone, plan.selected)
    expected = relevance(network, inputs, loaded.targets(reference, plan.selected), "preset_b")
    found = maps_of(plan, store, model.id, "other_lrp")
    assert np.abs(found - expected.reshape(found.shape)).max() <= 1e-4 * np.abs(expected).max()


def test_masks_are_made_from_the_maps_of_their_attribution(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    source, destination = plan.models[0], plan.models[3]
    mask = Mask(source.id, attribution="gradient")
    unit = next(
        unit
        for (own, backbone, _, _), units in masking.units(plan).items()
        if own == mask and backbone == destination.backbone
        for unit in units
        if unit.name.startswith(f"{source.id}.gradient--{destination.id}")
    )
    rows = store.read([unit]).to_pylist()
    assert unit.table == "masked_attributions"
    assert {(row["source_id"], row["attribution"], row["control"]) for row in rows} == {
        (source.id, "gradient", "none")
    }
    loaded = load(plan, store)
    ids = [plan.images.ids[index] for index in plan.selected]
    stored = matrix(store.read([attributions.units(plan)[source.id, "gradient", 0]])["map"])
    ranks = mask_ranks(stored, Ranking("absolute", 1), source.id, ids)
    inputs = loaded.inputs(destination.backbone, plan.selected)
    count = round(inputs[0, ..., 0].size * 0.1)
    masked = np.where((ranks < count).reshape(*inputs.shape[:3], 1), 0, inputs).astype(np.float32)
    readout = loaded.readout(finetune.refer(plan, destination))
    logits = readout.logits(loaded.evaluator(destination.backbone).features(masked).numpy())
    of_level = [row for row in rows if row["percent"] == 10]
    targets = loaded.targets(finetune.refer(plan, destination), plan.selected)
    assert [row["target_logit"] for row in of_level] == pytest.approx(
        logits[np.arange(len(ids)), targets].tolist(), rel=1e-4, abs=1e-4
    )


def test_every_attribution_has_its_masks_and_controls(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    further = [mask for mask in masking.masks(plan) if mask.attribution]
    assert len(further) == len(plan.models) * (len(LEVELS) - 1) * 2
    assert not store.missing(all_units(plan))
    assert rows_of_tables(plan)["masked_attributions"] == len(further) * 4 * 6 * 5
    assert rows_of_tables(plan)["attributions"] == 4 * (len(LEVELS) - 1) * 6


def test_report_and_metrics_compare_the_attributions(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    answers = answers_of(plan, store)
    files = write_report(answers)
    assert {"figures/attributions.png", "figures/attributions.svg"} <= set(files)
    page = files[PAGE].decode()
    assert "Which attribution finds what the network uses" in page
    assert f"maps by {len(LEVELS)} attributions ({', '.join(LEVELS)})" in page
    rows = run_query("attributions", store.root, {"per": "model"}).to_pylist()
    metrics = model_metrics(answers)
    compared = [row for row in rows if row["control"] == "other_image"]
    assert len(compared) == len(LEVELS) * len(plan.models)
    for row in compared:
        named = f"attribution_loss.{row['attribution']}"
        assert metrics[row["model_id"]][named] == pytest.approx(row["loss"], abs=1e-12)
    for place in answers.attributions:
        if (place["condition"], place["control"]) == ("all", "other_image"):
            assert f"{place['attribution']} {place['loss']:.3f}" in page


def test_an_export_has_the_masks_of_every_attribution(finished: tuple[Plan, Store], tmp_path: Path) -> None:
    plan, store = finished
    tables = write_tables(plan, store, tmp_path)
    for table in ("attributions", "masked_attributions"):
        assert tables[table].names == [name for name in columns_of(plan, table).names if name != "map"]
        written = pq.read_table(tmp_path / parquet_path(table))
        assert written.num_rows == rows_of_tables(plan)[table]
        assert set(written["attribution"].to_pylist()) == set(LEVELS) - {"lrp"}
        assert (tmp_path / csv_path(table)).read_text().count("\n") == written.num_rows + 1
    words = description(plan, tables).decode()
    assert "level of the factor attribution by which the source's map was made" in words


def test_a_study_without_the_factor_has_none_of_it(tmp_path: Path) -> None:
    plan = asked(write_small_study(tmp_path), {})
    store = Store(str(tmp_path / "results" / "small"))
    simulate(plan, store)
    answers = answers_of(plan, store)
    assert "attributions" not in exhibits(answers)
    assert "attribution" not in " ".join(asked_of(plan))
    assert not any(
        name.startswith("attribution") for named in model_metrics(answers).values() for name in named
    )


def test_the_factor_adds_units_and_changes_none(small_study: SmallStudy) -> None:
    without = asked(small_study, {})
    assert "attributions" not in stages_of(without)
    assert b"sweep.attributions" not in index_of_study(without)
    plain = set(all_units(without))
    one, more = asked(small_study, {"lrp": "preset_a_flat"}), asked(small_study)
    assert set(all_units(one)) == plain
    assert plain < set(all_units(more))
    assert {unit.table for unit in set(all_units(more)) - plain} == {"attributions", "masked_attributions"}


def test_a_level_changes_the_keys_of_its_own_units_only(small_study: SmallStudy) -> None:
    levels = {"lrp": "preset_a_flat", "gradient": "gradient", "smooth": {"method": "smoothgrad"}}
    before = asked(small_study, levels)
    after = asked(small_study, {**levels, "smooth": {"method": "smoothgrad", "samples": 3}})
    changed = set(all_units(before)) ^ set(all_units(after))
    assert changed
    assert all(".smooth." in unit.name or ".smooth--" in unit.name for unit in changed)


def test_the_first_level_is_the_studys_relevance(small_study: SmallStudy) -> None:
    plan = asked(small_study, {"b": "preset_b", "gradient": "gradient"})
    assert plan.study.relevance.composite == "preset_b"
    assert list(attributions.levels(plan)) == ["gradient"]


def test_the_control_of_permuted_weights_is_of_relevance_only(small_study: SmallStudy) -> None:
    plan = asked(small_study, controls=["randomized", "reversed"])
    controls = {mask.control for mask in masking.masks(plan) if mask.attribution}
    assert controls == {"none", "reversed"}


def test_one_model_that_lacks_maps_costs_its_own_masks(finished: tuple[Plan, Store]) -> None:
    plan, _ = finished
    lost = attributions.units(plan)[plan.models[0].id, "gradient", 0]
    without = with_gaps(plan, [lost])
    gone = set(all_units(plan)) - set(all_units(without))
    assert gone
    assert {unit.table for unit in gone} == {"masked_attributions"}
    assert all(unit.name.startswith(f"{plan.models[0].id}.gradient") for unit in gone)


def test_counts_are_kept_where_only_cells_are_asked_for(tmp_path: Path) -> None:
    plan = asked(
        write_small_study(tmp_path), {"lrp": "preset_a_flat", "chance": "random"}, granularity="cell"
    )
    store = Store(str(tmp_path / "results" / "small"))
    run_in_process(plan, store)
    units = [unit for unit in all_units(plan) if unit.table == "masked_attributions"]
    rows = store.read(units)
    assert rows.column_names == columns_of(plan, "masked_attributions").names
    assert rows.num_rows == rows_of_tables(plan)["masked_attributions"]
    assert set(rows["n"].to_pylist()) == {6}


def test_maps_of_a_further_level_are_shared_by_a_backbones_models(
    finished: tuple[Plan, Store], tmp_path: Path
) -> None:
    plan, _ = finished
    empty = Store(str(tmp_path / "empty"))
    pieces = missing_pieces(plan, empty, "attributions")
    assert len(pieces) == 2 * (len(LEVELS) - 1)
    assert all(len(piece.units) == 2 for piece in pieces)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (
            {"gradient": "gradient"},
            "factors.attribution: the first level is what the study shows of relevance",
        ),
        (
            {"lrp": "preset_a", "g": "gradeint"},
            "factors.attribution.g: 'gradeint' is no method; did you mean",
        ),
        (
            {"lrp": "preset_a", "g": {"method": "gradient", "steps": 3}},
            "factors.attribution.g.steps: unknown key",
        ),
        (
            {"lrp": "preset_a", "g": {"method": "what"}},
            "factors.attribution.g: method: must be one of lrp, grad",
        ),
        (
            {"lrp": "preset_a", "g": "gradient", "h": "gradient"},
            "the levels g and h are the same; remove one",
        ),
        (
            {"lrp": "preset_a", "o": {"method": "occlusion", "patch": 4}},
            "attribution.o: stride: must not exceed",
        ),
        ({"lrp": "preset_a", "b": "preset_x"}, "factors.attribution.b.composite"),
        (["gradient"], "factors.attribution: must map each level's name to its method"),
    ],
)
def test_a_level_that_cannot_be_is_told_in_one_line(
    small_study: SmallStudy, levels: Any, message: str
) -> None:
    with pytest.raises(InputError) as error:
        asked(small_study, levels)
    assert len(error.value.problems) == 1
    assert message in error.value.problems[0]
