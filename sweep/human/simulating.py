"""Simulated observers with a known preference, as the journal that a collector leaves: to rehearse an experiment.

Their sessions are called `simulated-N`, so that they cannot be taken for people.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from sweep.human.power import Effect
from sweep.keys import generator

PREFIX = "simulated-"
"""How the names of simulated sessions begin."""
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
Chance: TypeAlias = Callable[[int, str], float]
"""Probability of option a, by observer and target."""
JournalLine: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Observers:
    """What simulated observers prefer; the same seed gives the same observers and targets."""

    preference: float
    """For the choices of the first condition, mean over all such observers and targets: above 0 and below 1."""
    sd_observers: float = 0.15
    """Standard deviation between observers, on the logit scale."""
    sd_targets: float = 0.9
    """Standard deviation between targets, on the logit scale."""
    seed: int = 0

    def chance(self, observer: int, target: str) -> float:
        """Probability of option a."""
        own = self.sd_observers * generator("simulated observer", self.seed, observer).normal()
        of_target = self.sd_targets * generator("simulated target", self.seed, target).normal()
        return float(1 / (1 + np.exp(-(self._centre + own + of_target))))

    @cached_property
    def _centre(self) -> float:
        """The logit of an average observer and target. Its probability is further from a half than the mean is."""
        return Effect(self.preference, self.sd_observers, self.sd_targets).centre


def drawn_preference(trials: pa.Table, count: int, observers: Observers) -> float:
    """Mean probability of option a for the very observers and targets that were drawn."""
    targets = {row["target"] for row in trials.to_pylist() if row["trial_type"] == "test"}
    return float(
        np.mean([observers.chance(number, target) for number in range(count) for target in sorted(targets)])
    )


def journal(trials: pa.Table, count: int, observers: Observers, careless: int = 0) -> list[JournalLine]:
    """The journal of `count` observers; the last `careless` of them answer catch trials wrongly.

    `trials` are the rows of the table `human_trials`.
    """
    sessions = (
        session_lines(trials, number, observers, number >= count - careless) for number in range(count)
    )
    return [header(trials), *(line for session in sessions for line in session)]


def text(lines: Sequence[JournalLine]) -> str:
    """Lines as a file holds them."""
    return "".join(json.dumps(line) + "\n" for line in lines)


def header(trials: pa.Table) -> JournalLine:
    """The first line of every file."""
    return {"kind": "experiment", "experiment_id": trials["experiment_id"][0].as_py(), "version": 1}


def session_lines(
    trials: pa.Table, number: int, observers: Observers, careless: bool = False
) -> Iterator[JournalLine]:
    """The lines of one observer's session."""
    rows: list[Mapping[str, Any]] = trials.to_pylist()
    own = 1 + number % max(row["list"] for row in rows)
    session, start = f"{PREFIX}{number}", START + timedelta(minutes=number)
    draws = generator("simulated answers", observers.seed, number)
    yield {
        "kind": "session",
        "session_id": session,
        "subject_id": session,
        "list": own,
        "consented": start.isoformat(),
        "started": start.isoformat(),
    }
    onset = 5.0
    for row in sorted((row for row in rows if row["list"] == own), key=lambda row: row["position"]):
        if row["expected"] is None:
            choice = "a" if draws.uniform() < observers.chance(number, row["target"]) else "b"
        else:
            choice = row["expected"] if not careless else "ba"[row["expected"] == "b"]
        took = float(draws.uniform(400, 2000))
        yield {
            "kind": "response",
            "session_id": session,
            "trial_id": row["trial_id"],
            "position": row["position"],
            "onset": onset,
            "response_time_ms": took,
            "side": "left" if choice == row["left"] else "right",
            "choice": choice,
            "source": "key",
            "hidden": False,
            "resumed": False,
            "image_px": 224.0,
            "received": (start + timedelta(seconds=onset + took / 1000)).isoformat(),
        }
        onset += took / 1000 + 0.5
    yield {
        "kind": "finish",
        "session_id": session,
        "finished": (start + timedelta(seconds=onset)).isoformat(),
    }
