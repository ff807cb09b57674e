"""Cohen's kappa of two models' errors against statsmodels, and on models whose errors are alike by construction."""

import dataclasses
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from statsmodels.stats.inter_rater import cohens_kappa

from sweep.analysis.queries import run_query
from tests.queries.simulated import Study, factorial, relation, write

STUDY = Study(
    factorial(2, 2, 2),
    percents=(0.0, 1.0, 10.0),
    n_images=20,
    n_random=1,
    fills=("linear", "mean"),
    controls={"other_image": 2},
    seed=13,
)


def answer(root: Path, **parameters: str) -> pd.DataFrame:
    frame: pd.DataFrame = run_query("error_consistency", str(root), parameters).to_pandas()
    return frame


def test_kappa_is_that_of_statsmodels(tmp_path: Path) -> None:
    study = dataclasses.replace(STUDY, models=STUDY.models[:3], n_random=1, controls={})
    write(study, tmp_path)
    masked = pd.read_parquet(tmp_path / "masked")
    got = answer(tmp_path, per="model")
    models = {model.model_id: model for model in study.models}
    # One source only, scattered pixels: the average over sources is then the kappa itself.
    alone = got[got["control"] == "scattered"]
    assert len(alone) == 3 * 2 * 3
    rows: list[Any] = list(alone.itertuples())
    for row in rows:
        here = masked[
            (masked["control"] == "scattered")
            & (masked["fill"] == row.fill)
            & (masked["percent"] == row.percent)
        ]
        wide = here.pivot(index="image_id", columns="destination_id", values="correct")
        table = pd.crosstab(wide[row.model_a], wide[row.model_b]).reindex(
            index=[False, True], columns=[False, True], fill_value=0
        )
        assert row.kappa == pytest.approx(cohens_kappa(table.to_numpy()).kappa, abs=1e-12)
        assert row.observed == pytest.approx((wide[row.model_a] == wide[row.model_b]).mean(), abs=1e-12)
        assert row.accuracy_a == pytest.approx(wide[row.model_a].mean())
        assert row.relation == relation(models[row.model_a], models[row.model_b])
        assert (row.n_pairs, row.n_masks, row.n_images) == (1, 1, 20)


def test_agreement_is_averaged_over_masks_and_kappa_over_pairs(tmp_path: Path) -> None:
    write(STUDY, tmp_path)
    masked = pd.read_parquet(tmp_path / "masked")
    pairs = answer(tmp_path, per="model")
    assert len(pairs) == 28 * 2 * 3 * 3
    pairs = pairs[(pairs["fill"] == "mean") & (pairs["percent"] == 10) & (pairs["control"] == "other_image")]
    pairs = pairs.set_index(["model_a", "model_b"])
    here = masked[
        (masked["fill"] == "mean") & (masked["percent"] == 10) & (masked["control"] == "other_image")
    ]
    kappas: dict[tuple[str, str], list[float]] = {}
    for a, b in combinations(sorted(set(here["destination_id"])), 2):
        both = [
            here[here["destination_id"] == name].set_index(["source_id", "draw", "image_id"])
            for name in (a, b)
        ]
        wide = pd.DataFrame({name: rows["correct"] for name, rows in zip("ab", both, strict=True)})
        by_mask = wide.groupby(["source_id", "draw"])
        observed = by_mask.apply(lambda rows: (rows["a"] == rows["b"]).mean()).mean()
        p, q = by_mask["a"].mean(), by_mask["b"].mean()
        expected = (p * q + (1 - p) * (1 - q)).mean()
        row = pairs.loc[(a, b)]
        assert row["n_masks"] == 8 * 2
        assert row["kappa"] == pytest.approx((observed - expected) / (1 - expected), abs=1e-12)
        kappas.setdefault((a.rpartition("-")[0], b.rpartition("-")[0]), []).append(row["kappa"])
    means = answer(tmp_path)
    means = means[(means["fill"] == "mean") & (means["percent"] == 10) & (means["control"] == "other_image")]
    means = means.set_index(["condition_a", "condition_b"])
    assert set(means.index) == set(kappas)
    for pair, values in kappas.items():
        assert means.loc[pair, "kappa"] == pytest.approx(np.mean(values), abs=1e-12)
        assert means.loc[pair, "n_pairs"] == len(values)


def test_models_that_fail_on_the_same_images_have_a_kappa_of_one(tmp_path: Path) -> None:
    write(STUDY, tmp_path)
    for path in (tmp_path / "masked").iterdir():
        table = pq.read_table(path)
        frame = table.to_pandas()
        frame["correct"] = frame["image_id"] < "img07"
        pq.write_table(table.from_pandas(frame, schema=table.schema, preserve_index=False), path)
    got = answer(tmp_path)
    np.testing.assert_allclose(got["kappa"], 1.0, atol=1e-12)
    np.testing.assert_allclose(got["accuracy_a"], 7 / 20)


def test_no_errors_and_no_images_have_no_kappa(tmp_path: Path) -> None:
    write(dataclasses.replace(STUDY, accuracy=lambda *_: 2.0), tmp_path / "right")
    got = answer(tmp_path / "right")
    assert got["kappa"].isna().all()
    assert got["note"].str.contains("always right").all()
    write(dataclasses.replace(STUDY, granularity="cell"), tmp_path / "cells")
    got = answer(tmp_path / "cells")
    assert len(got)
    assert got[["kappa", "observed"]].isna().all(axis=None)
    assert got["note"].str.contains("counts instead of images").all()
