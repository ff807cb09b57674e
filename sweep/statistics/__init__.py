"""The paper's tests once more, in Python: pure functions on pandas and NumPy, with statsmodels and SciPy.

The SQL files of `queries/` answer the same questions by closed formulas; here the answers come from fitted linear
models, so that agreement of the two means something. Input is the answer of `queries/bins.sql`, or any table with
its columns `destination_id`, `relation`, `pretraining` and `auc`.
"""

from sweep.statistics.anova import mixed, mixed_linear_model, one_way, repeated_measures, two_way
from sweep.statistics.assumptions import equal_variances, normality
from sweep.statistics.curves import CurveBand, area_under_curve, bootstrap_band
from sweep.statistics.pairs import pairwise_t, tukey

__all__ = [
    "CurveBand",
    "area_under_curve",
    "bootstrap_band",
    "equal_variances",
    "mixed",
    "mixed_linear_model",
    "normality",
    "one_way",
    "pairwise_t",
    "repeated_measures",
    "tukey",
    "two_way",
]
