"""How often do the tests of people's preference cry wolf, and how often do their intervals hold the truth?

Each simulated study has new observers and new targets, whose logits of the two options differ by random effects. Without a
preference a test at the 5 % level should reject in 5 % of studies; with one, a 95 % interval should hold it in 95 %. The
cells differ in how much observers and targets differ, in size, and in which answers are missing.

    python -m benchmarks.human_error [--studies 4000] [--logistic 0] [--seed 0] [--json PATH]

`--logistic 400` fits the logistic model too, to so many studies of each cell: up to a third of a second each.

Exits with 1 where the crossed test rejects outside 3 to 6 %, by more than two standard errors of the simulation.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from sweep.human.power import Effect, simulated_answers
from sweep.keys import generator
from sweep.statistics import Preference, crossed_logistic, over_both, over_observers, over_targets

Array = NDArray[np.float64]

LOW, HIGH = 0.03, 0.06
"""Within which the crossed test must reject."""
TRUE = 0.56
"""Preference that intervals are to hold."""
BATCH = 250
"""Studies at once."""
TESTS: dict[str, Callable[[Array], Preference]] = {
    "crossed": over_both,
    "observers": over_observers,
    "targets": over_targets,
}


@dataclass(frozen=True)
class Cell:
    """A kind of study."""

    name: str
    observers: int
    targets: int
    sd_observers: float
    sd_targets: float
    missing: str = "none"
    """'none', 'answers' (30 % at random) or 'observers' (a third of them stop somewhere)."""


CELLS = (
    Cell("46 × 95, nobody differs", 46, 95, 0.0, 0.0),
    Cell("46 × 95, targets differ a little", 46, 95, 0.15, 0.3),
    Cell("46 × 95, targets differ", 46, 95, 0.15, 0.9),
    Cell("46 × 95, observers differ", 46, 95, 0.9, 0.15),
    Cell("12 × 20, targets differ", 12, 20, 0.15, 0.9),
    Cell("46 × 10, targets differ", 46, 10, 0.15, 0.9),
    Cell("46 × 95, targets differ, 30 % missing", 46, 95, 0.15, 0.9, "answers"),
    Cell("46 × 95, targets differ, a third stop", 46, 95, 0.15, 0.9, "observers"),
)


@dataclass(frozen=True)
class Rate:
    """How one test does in one cell."""

    cell: str
    test: str
    studies: int
    rejected: float
    """Share of p < 0.05 where there is no preference."""
    covered: float
    """Share of intervals that hold the preference where there is one."""

    @property
    def holds(self) -> bool:
        """Whether the crossed test rejects as often as it should; true for the others, which are not judged."""
        error = 2 * np.sqrt(self.rejected * (1 - self.rejected) / self.studies)
        return self.test != "crossed" or LOW - error <= self.rejected <= HIGH + error


def simulate(cell: Cell, preference: float, studies: int, draws: np.random.Generator) -> Array:
    """Answers (study, observer, target), NaN where there is none."""
    effect = Effect(preference, cell.sd_observers, cell.sd_targets)
    answers: Array = simulated_answers(effect, cell.observers, cell.targets, studies, draws)
    if cell.missing == "answers":
        answers[draws.random(answers.shape) < 0.3] = np.nan
    elif cell.missing == "observers":
        stop = np.where(
            draws.random((studies, cell.observers)) < 1 / 3,
            draws.integers(1, cell.targets, (studies, cell.observers)),
            cell.targets,
        )
        # Every observer has an order of their own.
        order = draws.random(answers.shape).argsort(axis=-1).argsort(axis=-1)
        answers[order >= stop[..., None]] = np.nan
    return answers


def measure(cell: Cell, studies: int, seed: int) -> Iterator[Rate]:
    """The rates of every test in one cell; the same seed gives the same ones."""
    draws = generator("human error", cell.name, seed)
    rejected, covered = dict.fromkeys(TESTS, 0), dict.fromkeys(TESTS, 0)
    for start in range(0, studies, BATCH):
        count = min(BATCH, studies - start)
        none, some = (simulate(cell, preference, count, draws) for preference in (0.5, TRUE))
        for name, test in TESTS.items():
            rejected[name] += int((test(none).p < 0.05).sum())
            found = test(some)
            covered[name] += int(((found.low <= TRUE) & (found.high >= TRUE)).sum())
    for name in TESTS:
        yield Rate(cell.name, name, studies, rejected[name] / studies, covered[name] / studies)


def measure_logistic(cell: Cell, studies: int, seed: int) -> dict[str, float]:
    """How often the two tests of the logistic model reject without a preference, and the crossed test of the same answers."""
    answers = simulate(cell, 0.5, studies, generator("human error", "logistic", cell.name, seed))
    fits = [crossed_logistic(study) for study in answers]
    return {
        "likelihood ratio": sum(fit.p_likelihood_ratio < 0.05 for fit in fits) / studies,
        "Wald": sum(fit.p_wald < 0.05 for fit in fits) / studies,
        "crossed": float((over_both(answers).p < 0.05).mean()),
    }


def main() -> int:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--logistic", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rates = [rate for cell in CELLS for rate in measure(cell, given.studies, given.seed)]
    table = Table(
        "studies", *(f"{name}: {what}" for name in TESTS for what in ("rejects", "covers")), box=None
    )
    for cell in CELLS:
        own = [rate for rate in rates if rate.cell == cell.name]
        table.add_row(cell.name, *(f"{share:.1%}" for rate in own for share in (rate.rejected, rate.covered)))
    Console(width=160).print(table)
    if given.logistic:
        console = Console(soft_wrap=True)
        console.print(
            f"Logistic model, {given.logistic:,} studies of each kind without a preference: rejected by"
        )
        for cell in CELLS:
            found = measure_logistic(cell, given.logistic, given.seed)
            console.print(
                f"{cell.name}: " + ", ".join(f"{name} {share:.1%}" for name, share in found.items())
            )
    if given.json:
        given.json.write_text(json.dumps([asdict(rate) for rate in rates], indent=1) + "\n", encoding="utf-8")
    wrong = [rate for rate in rates if not rate.holds]
    for rate in wrong:
        Console().print(f"{rate.cell}: the crossed test rejects in {rate.rejected:.1%}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
