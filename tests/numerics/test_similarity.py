"""Correlations of maps against SciPy."""

import numpy as np
import pytest
import scipy.stats

from sweep.numerics.similarity import pearson, standardized


def test_every_pair_equals_scipy() -> None:
    draws = np.random.default_rng(0)
    first, second = draws.normal(size=(2, 5, 200)).astype(np.float32)
    second[3] = -first[3] + 0.01 * second[3]
    result = pearson(standardized(first), standardized(second))
    for own, a, b in zip(result, first.astype(float), second.astype(float), strict=True):
        assert own == pytest.approx(scipy.stats.pearsonr(a, b).statistic, abs=1e-12)


def test_a_constant_map_correlates_with_nothing() -> None:
    maps = standardized(np.array([[1.0, 1, 1], [1, 2, 3], [3, 2, 1]], np.float32))
    assert np.isnan(pearson(maps, maps[[1, 1, 1]])).tolist() == [True, False, False]
    np.testing.assert_allclose(pearson(maps[[1, 2]], maps[[1, 1]]), [1, -1])
