"""How often does each test cry wolf? Thousands of tests on studies in which nothing is to be found.

Each simulated study has the paper's design: two pretrainings, two tasks, five seeds, one AUC per destination model
and bin of mask sources. Neither pretraining nor mask source has an effect, so a test at the 5 % level should reject
in 5 % of cases. Four kinds of studies are simulated, because a test can only be held to what it assumes:

  independent  every AUC is a normal number of its own: what the between-subjects tests of the paper assume
  repeated     models differ, as strongly as repeated measurements of one model do: what the mixed and the
               repeated-measures tests assume
  measured     101 images are classified right or wrong at each masking level, models and sources differ, and bins
               hold one, four or five sources: what a study measures, and what no test assumes exactly
  losses       the same, and of each area that of a control of the same source is taken away: specific losses

The tests run from the SQL files themselves, on all studies at once; those that exist in Python only run one by one.

    python benchmarks/type_one_error.py [--studies 1000] [--seed 0] [--json PATH]

Exits with 1 when a test leaves 5 % +- 1.5 % in studies that meet its assumptions.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from sweep import statistics
from sweep.analysis.queries import list_queries

LEVEL, TOLERANCE = 0.05, 0.015
SEEDS, IMAGES = 5, 101
PRETRAININGS, TASKS = ("imagenet", "vggface"), ("identity", "gender")
BINS = ("same_init", "same_task_same_pretraining", "other_task", "other_pretraining", "other_both")
SOURCES = np.array([1, SEEDS - 1, SEEDS, SEEDS, SEEDS])
PERCENTS = np.array([0.1, 0.3, 1.0, 3.2, 10.0, 31.6])
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """How often one test rejected in one kind of study."""

    studies: str
    """independent, repeated, measured or losses."""
    test: str
    """The test, by query and effect."""
    tests: int
    """How often it ran."""
    rejected: float
    """Share of p < 0.05."""
    judged: str
    """'two-sided', 'upper' (a test known to be cautious may reject less), or '' where its assumptions fail."""

    @property
    def holds(self) -> bool:
        """Whether the share is where it should be; true for what is not judged."""
        low = self.judged != "two-sided" or self.rejected >= LEVEL - TOLERANCE
        return not self.judged or (low and self.rejected <= LEVEL + TOLERANCE)


def simulate(kind: str, studies: int, rng: np.random.Generator) -> pd.DataFrame:
    """One row per study, model and bin, with the columns of the view `bin_auc`."""
    models = [
        (f"{pretraining}-{task}", pretraining, task, seed)
        for pretraining, task in product(PRETRAININGS, TASKS)
        for seed in range(SEEDS)
    ]
    shape = (studies, len(models), len(BINS))
    if kind in ("measured", "losses"):
        auc = np.stack([_measured(studies, len(models), count, rng) for count in SOURCES], axis=-1)
        if kind == "losses":
            auc = np.stack([_measured(studies, len(models), count, rng) for count in SOURCES], axis=-1) - auc
        # A model is as resistant in one bin as in the next: one deviation for all of its bins.
        auc += rng.normal(0, 0.02, (studies, len(models), 1))
    else:
        auc = 0.6 + rng.normal(0, 0.03, shape)
        if kind == "repeated":
            auc += rng.normal(0, 0.03, (studies, len(models), 1))
    frame = pd.MultiIndex.from_product(
        [range(studies), range(len(models)), BINS], names=["study", "model", "relation"]
    ).to_frame(index=False)
    for column, values in zip(
        ("cell", "pretraining", "task", "seed"), zip(*models, strict=True), strict=True
    ):
        frame[column] = np.asarray(values)[frame["model"]]
    frame["extra"] = "study=" + frame["study"].astype(str)
    frame["condition"] = frame["cell"] + "-" + frame["study"].astype(str)
    frame["destination_id"] = frame["condition"] + "-s" + frame["seed"].astype(str)
    frame["auc"] = auc.ravel()
    return frame


def _measured(studies: int, models: int, sources: int, rng: np.random.Generator) -> Array:
    """Mean AUC over the sources of a bin, from images that are classified right or wrong; studies x models."""
    expected = np.array([0.98, 0.95, 0.85, 0.65, 0.4, 0.2])
    mask = rng.normal(0, 0.3, (studies, models, sources, 1))
    chance = 1 / (1 + np.exp(-(np.log(expected / (1 - expected)) + mask)))
    accuracy = rng.binomial(IMAGES, chance) / IMAGES
    areas: Array = statistics.area_under_curve(PERCENTS, accuracy)
    return np.asarray(areas.mean(axis=-1), dtype=np.float64)


def in_sql(frame: pd.DataFrame) -> dict[str, Array]:
    """p-values of every test of the SQL files, by name of the test."""
    paths = {query.name: query.path for query in list_queries()}
    with duckdb.connect() as connection:
        connection.execute((paths["auc"].parent / "functions.sql").read_text(encoding="utf-8"))
        connection.register("simulated", frame)
        # What views.sql and auc.sql would leave, for all studies as if they were one with a factor `study`.
        connection.execute("CREATE TEMP TABLE bin_auc AS FROM simulated")
        connection.execute(
            "CREATE TEMP TABLE conditions AS SELECT DISTINCT destination_id AS model_id, condition, pretraining, task,"
            " extra FROM bin_auc"
        )
        # As views.sql has it, which reads files.
        connection.execute(
            "CREATE MACRO setting(name, allowed) AS coalesce(getvariable(name)::VARCHAR, allowed[1])"
        )
        connection.execute("CREATE TEMP VIEW bin_measure AS FROM bin_auc")
        connection.execute(
            "CREATE TEMP VIEW compared_auc AS FROM bin_auc WHERE relation <> 'same_task_same_pretraining'"
        )
        answers = {
            name: connection.execute(paths[name].read_text(encoding="utf-8")).df()
            for name in ("anova_initialisation", "anova_source", "pairwise")
        }
    rates: dict[str, Array] = {}
    for (design, effect), rows in answers["anova_initialisation"].groupby(["design", "effect"]):
        rates[f"anova_initialisation, {design}: {effect}"] = rows["p"].to_numpy()
    for design, rows in answers["anova_source"].groupby("design"):
        rates["anova_source, " + str(design)] = rows["p"].to_numpy()
        if design == "repeated":
            rates["anova_source, repeated, Greenhouse-Geisser"] = rows["gg_p"].to_numpy()
    for test, rows in answers["pairwise"].groupby("test"):
        rates[f"pairwise, {test}"] = rows["p"].to_numpy()
        rates[f"pairwise, {test}, any pair after Holm"] = rows.groupby("condition")["p_holm"].min().to_numpy()
    return rates


def in_python(frame: pd.DataFrame) -> dict[str, Array]:
    """p-values of the tests that exist in Python only, of one cell or task per study."""
    rates: dict[str, list[float]] = {}

    def add(test: str, p: float) -> None:
        rates.setdefault(test, []).append(p)

    for _, study in frame.groupby("study"):
        task = study[study["task"] == TASKS[0]]
        initialisation = task[task["relation"].isin(BINS[:2])]
        cell = task[(task["pretraining"] == PRETRAININGS[0]) & (task["relation"] != BINS[1])]
        add("Tukey, any pair", statistics.tukey(cell)["p"].min())
        add("Shapiro-Wilk on residuals", statistics.normality(cell)["p"].iloc[0])
        add("Brown-Forsythe", statistics.equal_variances(cell)["p"].iloc[0])
        wald = statistics.mixed_linear_model(initialisation).set_index("effect")["p"]
        add("mixed linear model, Wald: mask_source", float(wald["mask_source"]))
    return {test: np.array(values) for test, values in rates.items()}


def judgement(kind: str, test: str) -> str:
    """How a test is judged in a kind of study; see `Rate.judged`."""
    independence = ("between", "unpaired", "welch", "Tukey", "Shapiro", "Brown-Forsythe")
    assumed = kind == "independent" or (kind == "repeated" and not any(name in test for name in independence))
    # With five models the normal distribution is too narrow for a Wald test, whatever the studies are like.
    if not assumed or "Wald" in test:
        return ""
    cautious = ("Greenhouse", "Holm", "Brown-Forsythe", "welch")
    return "upper" if any(name in test for name in cautious) else "two-sided"


def measure(studies: int, seed: int) -> Iterator[Rate]:
    """All rates; the same seed gives the same ones."""
    for number, kind in enumerate(("independent", "repeated", "measured", "losses")):
        frame = simulate(kind, studies, np.random.default_rng([seed, number]))
        for test, p in {**in_sql(frame), **in_python(frame)}.items():
            if np.isnan(p).any():
                raise RuntimeError(f"{test} gave no p-value in a study that allows it")
            yield Rate(kind, test, len(p), float((p < LEVEL).mean()), judgement(kind, test))


def main() -> int:
    """Print the table, write the JSON, and tell by the exit code whether every judged test holds its level."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    rates = list(measure(options.studies, options.seed))
    table = Table(title=f"Share of p < {LEVEL} in {options.studies} studies without any effect")
    for column in ("studies", "test", "tests", "rejected", "judged", "holds"):
        table.add_column(column, justify="right" if column in ("tests", "rejected") else "left")
    for rate in rates:
        holds = ("yes" if rate.holds else "NO") if rate.judged else ""
        table.add_row(rate.studies, rate.test, str(rate.tests), f"{rate.rejected:.1%}", rate.judged, holds)
    Console(width=130).print(table)
    if options.json:
        rows = [{**asdict(rate), "holds": rate.holds} for rate in rates]
        options.json.write_text(
            json.dumps({"studies": options.studies, "seed": options.seed, "rates": rows}, indent=1)
        )
    return int(not all(rate.holds for rate in rates))


if __name__ == "__main__":
    sys.exit(main())
