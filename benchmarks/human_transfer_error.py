"""How often does the agreement of people with models seem related to transfer where it is not?

Simulated observers prefer one condition, or none, and know nothing of transfer. Their agreement with the models of a stored
study is correlated with the models' own transfer indices, as `human_transfer.sql` does it. An interval should leave out 0 in
5 % of such studies. Models, targets and indices are those of the study, so the shares hold for it and for others like it.

    python -m benchmarks.human_transfer_error RESULTS/STUDY [--studies 400] [--resamples 1000]
"""

import argparse
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy import stats

from sweep.analysis.queries import run_query
from sweep.human.power import Effect, simulated_answers
from sweep.keys import generator

Array = NDArray[np.float64]

OBSERVERS = 46
PREFERENCES = (0.5, 0.55, 0.6)
CHOICES = """
WITH trials AS (
    SELECT DISTINCT trial_id, target, target_image, option_a, option_b FROM human_trials WHERE trial_type = 'test'
),
chosen AS (
    SELECT model_id, image_id, max(class) FILTER (rank = 1) AS first, max(class) FILTER (rank = 2) AS second
    FROM predictions
    WHERE rank <= 2
    GROUP BY model_id, image_id
)
SELECT model_id, condition, trial_id, (second = option_a)::INTEGER AS is_a
FROM trials
JOIN chosen ON image_id = target_image AND first = target AND second IN (option_a, option_b)
JOIN conditions USING (model_id)
"""
LOSSES = """
SELECT source_id, destination_id, loss_log
FROM losses
WHERE fill = getvariable('fill_used')::VARCHAR AND control = getvariable('human_control')::VARCHAR AND loss_log IS NOT NULL
"""


def read(root: str, index_file: bytes | None = None) -> tuple[Array, NDArray[np.str_], dict[str, Array]]:
    """Choices (model, target): 1 for option a, 0 for b, NaN for neither; conditions; transfer indices by role."""
    with duckdb.connect() as connection:
        run_query("human_transfer", root, connection=connection, index=index_file)
        rows = connection.execute(CHOICES).fetchall()
        losses = {
            (source, destination): loss for source, destination, loss in connection.execute(LOSSES).fetchall()
        }
    conditions = {model: condition for model, condition, _, _ in rows}
    targets = sorted({trial for _, _, trial, _ in rows})
    names = sorted(name for name in conditions if (name, name) in losses)
    choices = np.full((len(names), len(targets)), np.nan)
    for model, _, trial, is_a in rows:
        if model in names:
            choices[names.index(model), targets.index(trial)] = is_a

    def index(pairs: list[tuple[str, str]]) -> float:
        return float(sum(losses[pair] for pair in pairs) / sum(losses[pair[1], pair[1]] for pair in pairs))

    indices = {
        role: np.array(
            [
                index(
                    [
                        pair
                        for pair in losses
                        if pair[place] == name and pair[0] != pair[1] and (pair[1],) * 2 in losses
                    ]
                )
                for name in names
            ]
        )
        for place, role in enumerate(("source", "destination"))
    }
    return choices, np.array([conditions[name] for name in names]), indices


def spearman(x: Array, y: Array) -> Array:
    """Spearman's correlation along the last axis."""
    a, b = (stats.rankdata(values, axis=-1) for values in (x, y))
    a, b = (values - values.mean(-1, keepdims=True) for values in (a, b))
    with np.errstate(invalid="ignore"):
        found: Array = (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return found


def less_mean(values: Array, conditions: NDArray[np.str_]) -> Array:
    """Values less the mean of their condition."""
    found: Array = values - np.array([values[conditions == name].mean() for name in conditions])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    choices, conditions, indices = read(str(given.results))
    models, targets = choices.shape
    console = Console(soft_wrap=True)
    console.print(
        f"{models} models, {targets} targets, {OBSERVERS} observers, {given.studies:,} studies of each preference"
    )
    for preference in PREFERENCES:
        draws = generator("human transfer error", preference, given.seed)
        effect = Effect(preference, 0.15, 0.9)
        missed: dict[str, int] = {}
        for _ in range(given.studies):
            shares = simulated_answers(effect, OBSERVERS, targets, 1, draws)[0].mean(axis=0)
            agreement = np.nanmean(
                np.where(np.isnan(choices), np.nan, np.where(choices == 1, shares, 1 - shares)), axis=1
            )
            sample = draws.integers(0, models, (given.resamples, models))
            for role, index in indices.items():
                for scope, (x, y) in {
                    "within": (less_mean(agreement, conditions), less_mean(index, conditions)),
                    "all": (agreement, index),
                }.items():
                    low, high = np.nanquantile(spearman(x[sample], y[sample]), [0.025, 0.975])
                    missed[f"{scope}, {role}"] = missed.get(f"{scope}, {role}", 0) + int(low > 0 or high < 0)
        told = "; ".join(f"{name} {count / given.studies:.1%}" for name, count in missed.items())
        console.print(f"preference {preference:.0%}: interval without 0: {told}")


if __name__ == "__main__":
    main()
