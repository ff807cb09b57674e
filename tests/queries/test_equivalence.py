"""Two one-sided tests against those of statsmodels."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW, ttost_ind, ttost_paired

from sweep.analysis.queries import run_query
from sweep.statistics.pairs import holm
from tests.queries.simulated import Study, expected_auc, factorial, write


def one_sided(a: np.ndarray, b: np.ndarray, test: str, bound: float) -> tuple[float, float, float]:
    """Give the p-values of both sides and of both together."""
    if test == "paired":
        p, lower, upper = ttost_paired(a, b, -bound, bound)
    else:
        p, lower, upper = ttost_ind(a, b, -bound, bound, usevar="pooled" if test == "unpaired" else "unequal")
    return float(lower[1]), float(upper[1]), float(p)


@pytest.mark.parametrize("bound", [0.02, 0.05, 0.3])
def test_as_statsmodels_has_them(bound: float, tmp_path: Path) -> None:
    study = Study(factorial(2, 2, 4), seed=9, n_images=40)
    study.missing = {(source, study.models[0].model_id) for source in study.sources[:1]}
    write(study, tmp_path)
    observed = expected_auc(tmp_path, study)
    got = run_query("equivalence", str(tmp_path), {"bound": bound}).to_pandas()
    assert len(got) == 4 * 3 * 6
    rows: list[Any] = list(got.itertuples())
    for row in rows:
        here = observed[observed["condition"] == row.condition]
        wide = here.pivot(index="destination_id", columns="relation", values="auc")
        pair = wide[[row.source_a, row.source_b]]
        a, b = (pair.dropna() if row.test == "paired" else pair).to_numpy().T
        a, b = a[~np.isnan(a)], b[~np.isnan(b)]
        lower, upper, p = one_sided(a, b, row.test, bound)
        np.testing.assert_allclose(
            [row.p_lower, row.p_upper, row.p], [lower, upper, p], rtol=1e-8, atol=1e-12
        )
        if row.test == "paired":
            low, high = DescrStatsW(a - b).tconfint_mean(alpha=0.1)
        else:
            means = CompareMeans(DescrStatsW(a), DescrStatsW(b))
            low, high = means.tconfint_diff(
                alpha=0.1, usevar="pooled" if row.test == "unpaired" else "unequal"
            )
        np.testing.assert_allclose([row.low, row.high], [low, high], rtol=1e-5, atol=1e-6)
        assert (row.p <= 0.05) == (-bound <= row.low and row.high <= bound)
    for _, table in got.groupby(["condition", "test"]):
        corrected = holm(table["p"].to_numpy())
        np.testing.assert_allclose(table["p_holm"], corrected, rtol=1e-9)
        assert (table["equivalent"] == (corrected <= 0.05)).all()


def test_no_variance_is_no_test(tmp_path: Path) -> None:
    write(Study(factorial(2, 2, 3), accuracy=lambda *_: 2.0), tmp_path)
    got = run_query("equivalence", str(tmp_path)).to_pandas()
    assert got[["p", "p_holm", "low", "high"]].isna().all(axis=None)
    assert got["equivalent"].isna().all()
    assert got["note"].str.startswith("no test").all()


def test_one_source_has_its_row(tmp_path: Path) -> None:
    write(Study(factorial(1, 1, 4)), tmp_path)
    got = run_query("equivalence", str(tmp_path)).to_pandas()
    assert isinstance(got, pd.DataFrame)
    assert got["note"].tolist() == ["no test: fewer than two mask sources to compare"]
