"""Simulated observers with a known preference, written as the journal that a collector leaves."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from sweep.keys import generator

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
Chance = Callable[[int, str], float]
"""Probability of option a, by observer and target."""


def known_preference(
    preference: float, observers: float = 0.0, targets: float = 0.0, seed: int = 0
) -> Chance:
    """Chances about a preference on the logit scale, with standard deviations between observers and targets."""
    centre = np.log(preference / (1 - preference))

    def chance(observer: int, target: str) -> float:
        own = observers * generator("observer", seed, observer).normal()
        of_target = targets * generator("target", seed, target).normal()
        return float(1 / (1 + np.exp(-(centre + own + of_target))))

    return chance


def session_lines(
    trials: pa.Table, observer: int, chance: Chance, careless: bool = False
) -> Iterator[dict[str, Any]]:
    """The lines of one observer's session; a careless one answers catch trials wrongly."""
    rows: list[Mapping[str, Any]] = trials.to_pylist()
    number = 1 + observer % max(row["list"] for row in rows)
    session, start = f"session-{observer}", START + timedelta(minutes=observer)
    draws = generator("answers", observer)
    yield {
        "kind": "session",
        "session_id": session,
        "subject_id": f"subject-{observer}",
        "list": number,
        "consented": start.isoformat(),
        "started": start.isoformat(),
    }
    onset = 5.0
    for row in sorted((row for row in rows if row["list"] == number), key=lambda row: row["position"]):
        if row["expected"] is None:
            choice = "a" if draws.uniform() < chance(observer, row["target"]) else "b"
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


def header(trials: pa.Table) -> dict[str, Any]:
    """The first line of every file."""
    return {"kind": "experiment", "experiment_id": trials["experiment_id"][0].as_py(), "version": 1}


def journal(trials: pa.Table, observers: int, chance: Chance, careless: int = 0) -> list[dict[str, Any]]:
    """The journal of an experiment: `observers` sessions, of which the last `careless` are careless."""
    sessions = [
        session_lines(trials, observer, chance, observer >= observers - careless)
        for observer in range(observers)
    ]
    return [header(trials), *(line for session in sessions for line in session)]


def text(lines: list[dict[str, Any]]) -> str:
    """Lines as a file holds them."""
    return "".join(json.dumps(line) + "\n" for line in lines)
