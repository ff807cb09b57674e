"""Queries on the factor attribution, against pandas and NumPy, and against the same masks in a study without the factor."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats

from sweep.analysis.queries import list_queries, run_query
from sweep.errors import InputError
from sweep.storage.schemas import MASKED_CELLS, SCHEMAS
from tests.queries.simulated import Mask, Study, factorial, write, write_index
from tests.queries.test_transfer import Losses

MODELS = factorial(2, 2, 3)
CONTROLS = {"other_image": 2}


def chance(own: float) -> Any:
    """Chances under which own masks cost `own`, and those of others half of it."""

    def of(mask: Mask) -> float:
        if mask.control != "none":
            return 0.9
        return 0.9 - own * (1 if mask.source_id == mask.destination_id else 0.5)

    return of


def write_both(root: Path, plain: Path, granularity: str = "image") -> None:
    """A study with a second attribution in `root`, and in `plain` that attribution's masks as if they were the only ones."""
    write(Study(MODELS, controls=CONTROLS, chance=chance(0.4), granularity=granularity), root)
    write(Study(MODELS, controls=CONTROLS, chance=chance(0.6), granularity=granularity, seed=8), plain)
    first, second = (pq.read_table(folder / "masked") for folder in (root, plain))
    of_none = pa.compute.equal(first["control"], "scattered")
    of_maps = second.filter(pa.compute.not_equal(second["control"], "scattered"))
    shutil.rmtree(plain / "masked")
    (plain / "masked").mkdir()
    merged = pa.concat_tables([of_maps, first.filter(of_none)])
    pq.write_table(merged, plain / "masked" / "part-0.parquet")
    write_index(plain)
    (root / "masked_attributions").mkdir()
    named = of_maps.add_column(
        1, SCHEMAS["masked_attributions"].field("attribution"), pa.array(["gradient"] * len(of_maps))
    )
    pq.write_table(named, root / "masked_attributions" / "part-0.parquet")
    write_index(root, ["gradient"])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("attributions")
    write_both(folder / "both", folder / "plain")
    return folder / "both", folder / "plain"


def interval(values: Any) -> tuple[float, float]:
    """Mean and half width of the interval of values (destination, image), both of which are drawn."""
    k, n = values.shape
    rows, columns, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    of_rows, of_columns = rows.var(ddof=1) / k, columns.var(ddof=1) / n
    rest = values - rows[:, None] - columns + mean
    of_both = (rest**2).sum() / ((k - 1) * (n - 1)) / (k * n)
    variance = of_rows + of_columns - min(of_both, of_rows, of_columns)
    degrees = max(1, variance**2 / (of_rows**2 / (k - 1) + of_columns**2 / (n - 1)))
    return float(mean), float(scipy.stats.t.ppf(0.975, degrees) * np.sqrt(variance))


def own_and_other(losses: Losses, destinations: list[str], control: str) -> tuple[Any, Any]:
    """Losses (destination, image) under own masks, and the mean of those under masks of other initialisations."""
    own, other = [], []
    for one in destinations:
        stem = one.rpartition("-")[0]
        others = [
            model.model_id
            for model in MODELS
            if model.model_id.rpartition("-")[0] == stem and model.model_id != one
        ]
        own.append(losses.of[one, one, "linear", control])
        other.append(np.mean([losses.of[source, one, "linear", control] for source in others], axis=0))
    return np.array(own), np.array(other)


def test_losses_intervals_and_ratios_are_those_of_numpy(both: tuple[Path, Path]) -> None:
    root, plain = both
    losses = {"lrp": Losses(root), "gradient": Losses(plain)}
    got = run_query("attributions", str(root)).to_pylist()
    assert len(got) == 2 * 2 * 5
    told = 0
    for row in got:
        names = [
            model.model_id
            for model in MODELS
            if row["condition"] in ("all", model.model_id.rpartition("-")[0])
        ]
        own, other = own_and_other(losses[row["attribution"]], names, row["control"])
        first, _ = own_and_other(losses["lrp"], names, row["control"])
        mean, reach = interval(own)
        assert (row["n_destinations"], row["n_images"]) == own.shape
        assert row["loss"] == pytest.approx(mean, abs=1e-12)
        assert (row["low"], row["high"]) == pytest.approx((mean - reach, mean + reach), abs=1e-7)
        assert row["other_loss"] == pytest.approx(other.mean(), abs=1e-12)
        assert row["difference"] == pytest.approx((own - first).mean(), abs=1e-12)
        if row["attribution"] == "lrp":
            assert row["difference_low"] is None
        else:
            apart, reach_apart = interval(own - first)
            assert row["difference_low"] == pytest.approx(apart - reach_apart, abs=1e-7)
            assert row["difference_high"] == pytest.approx(apart + reach_apart, abs=1e-7)
        assert row["place"] == (1 if row["attribution"] == "gradient" else 2)
        if mean <= reach:
            assert row["transfer"] is None
            assert row["note"] == "no transfer: the loss is not clearly above 0"
            continue
        assert row["note"] == ""
        told += 1
        ratio = other.mean() / mean
        assert row["transfer"] == pytest.approx(ratio, abs=1e-9)
        _, left = interval(other - ratio * own)
        assert row["transfer_low"] == pytest.approx(ratio - left / mean, abs=1e-7)
        assert row["transfer_high"] == pytest.approx(ratio + left / mean, abs=1e-7)
    assert told >= 10


def test_losses_are_those_of_the_index_of_transfer(both: tuple[Path, Path]) -> None:
    root, _ = both
    compared = run_query("attributions", str(root)).to_pandas()
    for level in ("lrp", "gradient"):
        transfer = run_query("transfer", str(root), {"attribution": level, "resamples": 1000}).to_pandas()
        own = transfer[transfer["relation"] == "same_init"].set_index(["condition", "control"])
        other = transfer[transfer["relation"] == "same_task_same_pretraining"].set_index(
            ["condition", "control"]
        )
        mine = compared[(compared["attribution"] == level) & (compared["condition"] != "all")]
        for row in mine.itertuples():
            key = row.condition, row.control
            assert row.loss == pytest.approx(own.loc[key, "loss"], abs=1e-9)
            assert row.low == pytest.approx(own.loc[key, "loss_low"], abs=0.03)
            if np.isfinite(other.loc[key, "transfer"]):  # not given more often than here: few models
                assert row.transfer == pytest.approx(other.loc[key, "transfer"], abs=1e-9)


def test_a_row_per_model_where_that_is_asked_for(both: tuple[Path, Path]) -> None:
    root, _ = both
    losses = Losses(root)
    got = run_query("attributions", str(root), {"per": "model"}).to_pylist()
    assert len(got) == 2 * 2 * len(MODELS)
    for row in got:
        if row["attribution"] == "lrp":
            own = losses.of[row["model_id"], row["model_id"], "linear", row["control"]]
            assert row["loss"] == pytest.approx(own.mean(), abs=1e-12)
            reach = scipy.stats.t.ppf(0.975, len(own) - 1) * own.std(ddof=1) / np.sqrt(len(own))
            assert row["high"] == pytest.approx(own.mean() + reach, abs=1e-9)
            assert row["note"].startswith("intervals over images only: one model")


def answer_of(name: str, root: Path, attribution: str) -> pd.DataFrame:
    """A query's answer, without the index of own masks over own masks: 1, or not given where rounding hides its variance."""
    frame: pd.DataFrame = run_query(name, str(root), {"attribution": attribution}).to_pandas()
    return frame[frame["relation"] != "same_init"] if name == "transfer" else frame


ANSWERED = [
    query.name
    for query in list_queries()
    if "attribution" in query.parameters and not query.name.startswith("human")
]


@pytest.mark.parametrize("name", ANSWERED)
def test_every_query_answers_for_the_attribution_that_is_asked_for(
    both: tuple[Path, Path], name: str
) -> None:
    root, plain = both
    asked, expected, other = (
        answer_of(name, *where) for where in ((root, "gradient"), (plain, "lrp"), (root, "lrp"))
    )
    pd.testing.assert_frame_equal(asked, expected, atol=1e-9)
    if name != "srg":
        assert not asked.equals(other)


def test_queries_answer_for_the_first_attribution_by_default(both: tuple[Path, Path], tmp_path: Path) -> None:
    root, _ = both
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "masked_attributions")
    write_index(tmp_path)
    for name in ("auc", "bins", "specific_loss"):
        alone = run_query(name, str(tmp_path)).to_pandas()
        pd.testing.assert_frame_equal(run_query(name, str(root)).to_pandas(), alone)
    one = run_query("attributions", str(tmp_path)).to_pylist()
    assert {row["attribution"] for row in one} == {"lrp"}


def test_an_unknown_attribution_is_told_with_those_that_there_are(both: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="attribution is 'what' but must be one of: lrp, gradient"):
        run_query("auc", str(both[0]), {"attribution": "what"})


def test_counts_have_intervals_over_models_only(tmp_path: Path) -> None:
    write_both(tmp_path / "images", tmp_path / "plain")
    write_both(tmp_path / "cells", tmp_path / "counted", granularity="cell")
    by_image = run_query("attributions", str(tmp_path / "images")).to_pylist()
    counted = run_query("attributions", str(tmp_path / "cells")).to_pylist()
    assert pq.read_table(tmp_path / "counted" / "masked").column_names == MASKED_CELLS.names
    for image, cell in zip(by_image, counted, strict=True):
        assert cell["loss"] == pytest.approx(image["loss"], abs=1e-12)
        assert cell["n_images"] is None
        assert cell["note"].startswith("intervals over models only")
        assert cell["high"] > cell["loss"]


def test_masks_that_lack_a_level_are_left_out(both: tuple[Path, Path], tmp_path: Path) -> None:
    root, _ = both
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "masked_attributions" / "part-0.parquet"
    rows = pq.read_table(path)
    lost = MODELS[0].model_id
    gone = [
        own["source_id"] == own["destination_id"] == lost
        and own["control"] == "none"
        and own["percent"] == 10
        for own in rows.select(["source_id", "destination_id", "control", "percent"]).to_pylist()
    ]
    pq.write_table(rows.filter(pa.array([not one for one in gone])), path)
    got = run_query("attributions", str(tmp_path)).to_pylist()
    condition = lost.rpartition("-")[0]
    counts = {row["attribution"]: row["n_destinations"] for row in got if row["condition"] == condition}
    assert counts == {"lrp": 3, "gradient": 2}


def test_likeness_of_maps_is_that_of_numpy(tmp_path: Path) -> None:
    write(Study(factorial(1, 2, 2), controls={"randomized": 1}, attributions=["gradient"]), tmp_path)
    own, other = (pq.read_table(tmp_path / name).to_pylist() for name in ("relevance", "attributions"))
    got = run_query("attribution_maps", str(tmp_path)).to_pylist()
    assert [row["condition"] for row in got] == ["all", "pre0-gender", "pre0-identity"]
    by_model: dict[str, list[float]] = {}
    for one, two in zip(own, other, strict=True):
        if np.ptp(one["map"]) > 0:
            r = float(np.corrcoef(np.abs(one["map"]), np.abs(np.float32(two["map"])))[0, 1])
            by_model.setdefault(one["model_id"], []).append(r)
    means = [np.mean(values) for values in by_model.values()]
    whole = got[0]
    assert (whole["attribution_a"], whole["attribution_b"]) == ("lrp", "gradient")
    assert whole["pearson"] == pytest.approx(np.mean(means), abs=1e-9)
    assert whole["pearson_sd"] == pytest.approx(np.std(means, ddof=1), abs=1e-9)
    assert (whole["n_models"], whole["n_maps"], whole["n_constant"]) == (4, 11, 1)
