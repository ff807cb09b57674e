"""Correlations of maps against SciPy."""

import numpy as np
import scipy.stats

from sweep.similarity import pearson_matrix


def test_every_pair_equals_scipy() -> None:
    maps = np.random.default_rng(0).normal(size=(5, 200)).astype(np.float32)
    maps[3] = -maps[1] + 0.01 * maps[2]
    result = pearson_matrix(maps)
    for a in range(5):
        for b in range(5):
            assert (
                abs(
                    result[a, b]
                    - scipy.stats.pearsonr(maps[a].astype(float), maps[b].astype(float)).statistic
                )
                < 1e-12
            )


def test_a_constant_map_correlates_with_nothing() -> None:
    result = pearson_matrix(np.array([[1.0, 1, 1], [1, 2, 3], [3, 2, 1]], np.float32))
    assert np.isnan(result[0]).all()
    np.testing.assert_allclose(result[1:, 1:], [[1, -1], [-1, 1]])
