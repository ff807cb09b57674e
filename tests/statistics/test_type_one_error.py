"""The benchmark of false alarms: that it runs, is seeded, and judges a test only where it may."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd

# The benchmarks are scripts and not a package.
SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "type_one_error.py"))
Rate, in_sql, judgement, simulate = (SCRIPT[name] for name in ("Rate", "in_sql", "judgement", "simulate"))


def test_every_test_gives_its_p_values() -> None:
    studies = simulate("measured", 5, np.random.default_rng(1))
    pd.testing.assert_frame_equal(studies, simulate("measured", 5, np.random.default_rng(1)))
    p = in_sql(studies)
    assert len(p) == 15
    assert len(p["anova_initialisation, mixed: mask_source"]) == 5 * 2
    assert len(p["anova_source, repeated"]) == 5 * 4
    assert len(p["pairwise, paired"]) == 5 * 4 * 6
    assert all(((values > 0) & (values <= 1)).all() for values in p.values())


def test_a_rate_holds_within_its_bounds() -> None:
    assert Rate("independent", "t", 1000, 0.06, "two-sided").holds
    assert not Rate("independent", "t", 1000, 0.08, "two-sided").holds
    assert not Rate("independent", "t", 1000, 0.02, "two-sided").holds
    assert Rate("independent", "t", 1000, 0.02, "upper").holds
    assert not Rate("independent", "t", 1000, 0.08, "upper").holds
    assert Rate("repeated", "t", 1000, 0.5, "").holds


def test_tests_are_judged_where_their_assumptions_hold() -> None:
    assert judgement("independent", "anova_source, between") == "two-sided"
    assert judgement("repeated", "anova_source, between") == ""
    assert judgement("repeated", "anova_source, repeated") == "two-sided"
    assert judgement("repeated", "anova_source, repeated, Greenhouse-Geisser") == "upper"
    assert judgement("measured", "anova_source, repeated") == ""
