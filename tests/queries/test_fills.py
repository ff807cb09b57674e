"""One fill at a time: every query answers as if the study had no other, and no control of a source."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweep import statistics
from sweep.analysis.queries import list_queries, run_query
from sweep.errors import InputError
from tests.queries.simulated import Study, expected_auc, factorial, relation, write, write_index

QUERIES = [
    query.name for query in list_queries() if "fill" in query.parameters and query.name != "human_transfer"
]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    study = Study(
        factorial(2, 2, 3),
        fills=("mean", "blur"),
        controls={"other_image": 2, "mean_map": 1, "randomized": 3, "reversed": 1},
        n_blocks=2,
        seed=5,
    )
    root = tmp_path_factory.mktemp("several")
    write(study, root)
    return study, root


def only(root: Path, target: Path, fill: str) -> None:
    """The same study with one fill, and with no controls but those without a source."""
    write(Study(factorial(2, 2, 3), n_random=0), target)
    table = pq.read_table(root / "masked").to_pandas()
    kept = table[(table["fill"] == fill) & table["control"].isin(["none", "scattered", "blocks"])]
    for path in (target / "masked").iterdir():
        schema = pq.read_schema(path)
        path.unlink()
    pq.write_table(
        pa.Table.from_pandas(kept, schema=schema, preserve_index=False), target / "masked" / "all.parquet"
    )
    write_index(target)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_answers_for_one_fill(name: str, several: tuple[Study, Path], tmp_path: Path) -> None:
    only(several[1], tmp_path, "mean")
    got = run_query(name, str(several[1]), {"fill": "mean"}).to_pandas()
    expected = run_query(name, str(tmp_path)).to_pandas()
    assert set(got["fill"]) == {"mean"}
    pd.testing.assert_frame_equal(got, expected, rtol=1e-9, atol=1e-12)


def test_blocks_are_a_bin_of_their_own(several: tuple[Study, Path]) -> None:
    study, root = several
    got = run_query("bins", str(root), {"fill": "blur"}).to_pandas()
    expected = expected_auc(root, study, "blur")
    both = got.merge(expected, on=["destination_id", "relation"])
    assert len(both) == len(got) == len(expected) == 12 * 7
    np.testing.assert_allclose(both["auc_log"], both["auc"], rtol=1e-12)


@pytest.mark.parametrize(
    ("fills", "used"),
    [(("mean", "linear", "blur"), "linear"), (("mean", "blur"), "blur"), (("mean",), "mean")],
)
def test_the_fill_by_default(fills: tuple[str, ...], used: str, tmp_path: Path) -> None:
    write(Study(factorial(1, 1, 2), fills=fills), tmp_path)
    assert set(run_query("auc", str(tmp_path))["fill"].to_pylist()) == {used}


def test_an_unknown_fill_names_those_there_are(several: tuple[Study, Path]) -> None:
    with pytest.raises(InputError, match="fill is 'linear' but the fills of this study are: blur, mean"):
        run_query("auc", str(several[1]), {"fill": "linear"})


def test_a_specific_loss_needs_a_control(tmp_path: Path) -> None:
    write(Study(factorial(1, 1, 2), n_random=0), tmp_path)
    with pytest.raises(InputError, match=r"no control under the fill 'linear'.*masking\.controls"):
        run_query("pairwise", str(tmp_path), {"measure": "specific_loss"})
    assert run_query("specific_loss", str(tmp_path)).num_rows == 0
    assert run_query("transfer", str(tmp_path)).num_rows == 0


@pytest.mark.parametrize("control", ["other_image", "mean_map", "randomized", "blocks", "scattered"])
def test_the_tests_run_on_specific_losses(control: str, several: tuple[Study, Path]) -> None:
    root = str(several[1])
    chosen: dict[str, str | int | float | bool] = {"measure": "specific_loss", "control": control}
    losses = run_query("specific_loss", root).to_pandas()
    losses = losses[(losses["fill"] == "blur") & (losses["control"] == control)]
    keys = ["condition", "pretraining", "task", "extra", "destination_id", "relation"]
    observed = losses.groupby(keys, as_index=False)["loss"].mean().rename(columns={"loss": "auc"})
    figures = ["df", "df_error", "sum_sq", "sum_sq_error", "f", "p"]

    rows = run_query("anova_source", root, chosen).to_pandas()
    assert set(rows["control"]) == {control}
    compared = observed[observed["relation"].str.startswith("other_") | (observed["relation"] == "same_init")]
    for _, row in rows.iterrows():
        here = compared[compared["condition"] == row["condition"]]
        test = statistics.one_way if row["design"] == "between" else statistics.repeated_measures
        np.testing.assert_allclose(
            row[figures].to_numpy(np.float64), test(here).iloc[0][figures].to_numpy(np.float64), rtol=1e-9
        )

    rows = run_query("anova_initialisation", root, chosen).to_pandas()
    own = observed[observed["relation"].isin(["same_init", "same_task_same_pretraining"])]
    for (task, design), table in rows.groupby(["task", "design"]):
        test = statistics.two_way if design == "between" else statistics.mixed
        expected = test(own[own["task"] == task]).set_index("effect").loc[table["effect"]]
        np.testing.assert_allclose(
            table[figures].to_numpy(np.float64), expected[figures].to_numpy(np.float64), rtol=1e-9
        )

    rows = run_query("pairwise", root, chosen).to_pandas()
    for (condition, kind), table in rows.groupby(["condition", "test"]):
        expected = statistics.pairwise_t(compared[compared["condition"] == condition], kind)
        np.testing.assert_allclose(table["p_holm"], expected["p_holm"], rtol=1e-9)


def test_the_control_by_default_is_the_first_of_the_order(
    several: tuple[Study, Path], tmp_path: Path
) -> None:
    got = run_query("pairwise", str(several[1]), {"measure": "specific_loss"})
    assert set(got["control"].to_pylist()) == {"other_image"}
    assert set(run_query("pairwise", str(several[1]))["control"].to_pylist()) == {""}
    write(Study(factorial(1, 2, 2), n_blocks=1), tmp_path)
    got = run_query("pairwise", str(tmp_path), {"measure": "specific_loss"})
    assert set(got["control"].to_pylist()) == {"blocks"}


def test_control_curves_are_means_of_own_masks_and_of_each_control(several: tuple[Study, Path]) -> None:
    _, root = several
    masked = pd.read_parquet(root / "masked")
    own = (masked["source_id"] == masked["destination_id"]) | masked["control"].isin(["scattered", "blocks"])
    places = ["destination_id", "fill", "control", "percent"]
    single = masked[own].groupby(places, as_index=False)["correct"].mean()
    single["condition"] = [name.rpartition("-")[0] for name in single["destination_id"]]
    means = single.groupby(["condition", "fill", "control", "percent"])["correct"].agg(["mean", "std", "sem"])
    got = run_query("control_curves", str(root)).to_pandas()
    got = got.set_index(["condition", "fill", "control", "percent"])
    assert len(got) == len(means)
    got = got.loc[means.index]
    np.testing.assert_allclose(got["accuracy"], means["mean"], rtol=1e-12)
    np.testing.assert_allclose(got["sd"], means["std"], rtol=1e-9)
    np.testing.assert_allclose(got["sem"], means["sem"], rtol=1e-9)


def test_the_symmetric_relevance_gain_is_the_loss_against_the_reversed_masks(
    several: tuple[Study, Path], tmp_path: Path
) -> None:
    study, root = several
    got = run_query("srg", str(root)).to_pandas()
    assert len(got) == 2 * len(study.models) ** 2
    masked = pd.read_parquet(root / "masked")
    inner = masked[(masked["percent"] > 0) & (masked["percent"] < 100)]
    for row in got.sample(10, random_state=0).itertuples():
        pair = inner[
            (inner["source_id"] == row.source_id)
            & (inner["destination_id"] == row.destination_id)
            & (inner["fill"] == row.fill)
        ]
        areas = {}
        for control in ("none", "reversed"):
            curve = pair[pair["control"] == control].groupby("percent")["correct"].mean()
            areas[control] = statistics.area_under_curve(curve.index.to_numpy(), curve.to_numpy())
        assert row.srg == pytest.approx(areas["reversed"] - areas["none"], abs=1e-12)
    write(Study(factorial(1, 1, 2)), tmp_path)
    assert run_query("srg", str(tmp_path)).num_rows == 0


def test_logits_are_means_over_images_draws_sources_and_destinations(several: tuple[Study, Path]) -> None:
    study, root = several
    masked = pd.read_parquet(root / "masked")
    models = {model.model_id: model for model in study.models}
    masked["relation"] = [
        relation(models[source], models[destination]) if source in models else source.partition("-")[0]
        for source, destination in zip(masked["source_id"], masked["destination_id"], strict=True)
    ]
    masked["target_logit"] = masked["target_logit"].astype(np.float64)
    places = ["destination_id", "relation", "control", "fill", "percent"]
    pairs = masked.groupby([*places, "source_id", "draw"], as_index=False)["target_logit"].mean()
    single = pairs.groupby(places, as_index=False)["target_logit"].mean()
    single["condition"] = [name.rpartition("-")[0] for name in single["destination_id"]]
    places[0] = "condition"
    means = single.groupby(places)["target_logit"].agg(["mean", "std", "sem"])
    got = run_query("logit_curves", str(root)).to_pandas().set_index(places)
    assert len(got) == len(means)
    got = got.loc[means.index]
    np.testing.assert_allclose(got["logit"], means["mean"], rtol=1e-12)
    np.testing.assert_allclose(got["sd"], means["std"], rtol=1e-9)
    np.testing.assert_allclose(got["sem"], means["sem"], rtol=1e-9)
    whole = means["mean"].xs(0.0, level="percent")
    for place, row in got.iterrows():
        assert row["kept"] == pytest.approx(row["logit"] / whole[place[:-1]])


def test_counts_have_no_logits(tmp_path: Path) -> None:
    write(Study(factorial(1, 1, 2), granularity="cell"), tmp_path)
    got = run_query("logit_curves", str(tmp_path)).to_pandas()
    assert got["logit"].isna().all()
    assert set(got["note"]) == {"masked holds counts instead of images"}
