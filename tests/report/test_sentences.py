"""Sentences: the numbers of the rows, and words that agree with them."""

from typing import Any

import pytest

from sweep.report.sentences import (
    f_test,
    headline,
    initialisation_findings,
    p_value,
    source_findings,
)
from sweep.report.style import styles_of

EFFECTS = ("pretraining", "mask_source", "pretraining:mask_source")
LOOKS = styles_of(["same_init", "other_task", "other_both"], ["a", "b"])


def row_of(
    f: float | None, p: float | None, df: int, df_error: int, note: str = "", **more: Any
) -> dict[str, Any]:
    return {"f": f, "p": p, "df": df, "df_error": df_error, "note": note, **more}


def initialisation(mixed_p: float = 0.3) -> list[dict[str, Any]]:
    """The paper's own numbers for identity, with a mixed reading beside them."""
    printed = {
        "pretraining": (49.6, 2.8e-6),
        "mask_source": (1.88, 0.19),
        "pretraining:mask_source": (0.5, 0.49),
    }
    rows = []
    for effect in EFFECTS:
        f, p = printed[effect]
        place = {"task": "identity", "extra": "", "effect": effect}
        rows.append(row_of(f, p, 1, 16, **place, design="between"))
        rows.append(row_of(f, mixed_p if effect == "mask_source" else p, 1, 8, **place, design="mixed"))
    return rows


def sizes() -> list[dict[str, Any]]:
    return [
        {
            "figure": "5",
            "family": "identity",
            "extra": "",
            "design": design,
            "effect": effect,
            "partial_eta_sq": 0.756,
        }
        for design in ("between", "mixed")
        for effect in EFFECTS
    ]


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.19, "p = 0.19"),
        (2.8e-6, "p = 2.8 × 10⁻⁶"),
        (0.0012, "p = 0.0012"),
        (9.96e-4, "p = 1.0 × 10⁻³"),
        (0.0, "p < 10⁻³⁰⁰"),
        (1.0, "p = 1"),
    ],
)
def test_p_values_are_written_as_in_papers(p: float, expected: str) -> None:
    assert p_value(p) == expected


def test_an_f_test_has_its_degrees_of_freedom_or_its_obstacle() -> None:
    assert f_test(row_of(49.6, 2.8e-6, 1, 16)) == "F(1, 16) = 49.6, p = 2.8 × 10⁻⁶"
    assert (
        f_test(row_of(None, None, 1, 0, "no test: one pretraining only")) == "no test: one pretraining only"
    )


def test_the_papers_own_result_reads_as_the_paper_has_it() -> None:
    (finding,) = initialisation_findings(initialisation(), sizes(), [])
    assert finding.subject == "identity"
    assert finding.sentences[0] == (
        "There is an effect of pretraining: F(1, 16) = 49.6, p = 2.8 × 10⁻⁶, partial η² = 0.76 (as printed in the paper); "
        "F(1, 8) = 49.6, p = 2.8 × 10⁻⁶, partial η² = 0.76 (mixed ANOVA)."
    )
    assert finding.sentences[1].startswith(
        "Not found: an effect of mask source (own or another initialisation): F(1, 16) = 1.88, p = 0.19"
    )
    assert finding.sentences[2].startswith("Not found: an interaction of pretraining and mask source: ")


def test_readings_that_disagree_are_said_to() -> None:
    (finding,) = initialisation_findings(initialisation(mixed_p=0.01), sizes(), [])
    assert finding.sentences[1].startswith("The two readings disagree about an effect of mask source")


def test_mean_areas_are_those_of_the_models_own_masks() -> None:
    bins = [
        {"task": "identity", "extra": "", "relation": relation, "pretraining": name, "auc_log": value}
        for relation, name, value in (
            ("same_init", "a", 0.4),
            ("same_init", "a", 0.6),
            ("same_init", "b", 0.25),
            ("other_task", "b", 0.9),
        )
    ]
    (finding,) = initialisation_findings(initialisation(), sizes(), bins)
    assert finding.sentences[-1] == "Mean AUC under the models' own masks: a 0.500, b 0.250."


def source(gg_p: float | None = 0.02) -> list[dict[str, Any]]:
    place = {"condition": "a-identity", "task": "identity", "extra": ""}
    corrected: dict[str, Any] = {"gg_epsilon": 0.456, "gg_df": 1.368, "gg_df_error": 5.472, "gg_p": gg_p}
    return [
        row_of(3.4, 0.044, 3, 16, **place, design="between", gg_p=None),
        row_of(9.1, 0.002, 3, 12, **place, design="repeated", **corrected),
    ]


def pair(one: str, other: str, difference: float, p_holm: float | None, note: str = "") -> dict[str, Any]:
    return {
        "condition": "a-identity",
        "test": "paired",
        "source_a": one,
        "source_b": other,
        "difference": difference,
        "df": 4.0,
        "t": difference * 100,
        "p_holm": p_holm,
        "note": note,
    }


def test_sources_are_tested_corrected_and_compared_in_pairs() -> None:
    pairs = [
        pair("other_both", "same_init", 0.05, 0.003),
        pair("other_task", "same_init", -0.01, 0.8),
        pair("other_both", "other_task", 0.0, None, "no test: no variance of the differences"),
    ]
    (finding,) = source_findings(source(), [], pairs, LOOKS)
    assert finding.sentences == [
        "There is an effect of mask source: F(3, 16) = 3.4, p = 0.044 (as printed in the paper); "
        "F(3, 12) = 9.1, p = 0.002 (repeated-measures ANOVA).",
        "Corrected for unequal covariances (Greenhouse-Geisser ε = 0.46): F(1.37, 5.47) = 9.1, p = 0.02.",
        "Pairs of sources that differ (paired t tests, p by Holm's correction): the model itself hurts more than other "
        "pretraining and task, by 0.050 of AUC (t(4) = 5, p = 0.003).",
        "Pairs not told apart: other task and the model itself (t(4) = 1, p = 0.8).",
        "Pairs without a test: 1 (no test: no variance of the differences).",
    ]


def test_the_headline_counts_by_the_tests_that_respect_repeated_measures() -> None:
    assert headline(initialisation(), source()) == (
        "Masks from another initialisation of the same model: no difference from the model's own masks was found in 1 of "
        "1 task (smallest p = 0.3). How much a mask hurts depends on which kind of model it came from in 1 of 1 kind of "
        "destination model (largest p = 0.02)."
    )
    assert "0 of 1 task." in headline(initialisation(mixed_p=0.01), source())
    assert headline([], []).startswith("The study is too small for a test")
