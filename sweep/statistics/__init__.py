"""The paper's tests once more, in Python: pure functions on pandas and NumPy, with statsmodels and SciPy.

The SQL files of `queries/` answer the same questions by closed formulas; here the answers come from fitted linear
models, so that agreement of the two means something. Input is the answer of `queries/bins.sql`, or any table with
its columns `destination_id`, `relation`, `pretraining` and `auc`. statsmodels is imported where it fits something: a run
needs none of it, and it takes a second.
"""

from sweep.statistics.anova import mixed, mixed_linear_model, one_way, repeated_measures, two_way
from sweep.statistics.assumptions import equal_variances, normality
from sweep.statistics.crossed_logistic import CrossedLogistic, crossed_logistic
from sweep.statistics.curves import CurveBand, area_under_curve, bootstrap_band
from sweep.statistics.pairs import pairwise_t, tukey
from sweep.statistics.people import (
    Agreement,
    Preference,
    TargetPreferences,
    agreement,
    each_target,
    over_both,
    over_observers,
    over_targets,
)

__all__ = [
    "Agreement",
    "CrossedLogistic",
    "CurveBand",
    "Preference",
    "TargetPreferences",
    "agreement",
    "area_under_curve",
    "bootstrap_band",
    "crossed_logistic",
    "each_target",
    "equal_variances",
    "mixed",
    "mixed_linear_model",
    "normality",
    "one_way",
    "over_both",
    "over_observers",
    "over_targets",
    "pairwise_t",
    "repeated_measures",
    "tukey",
    "two_way",
]
