"""Answers of people to a simulated study: any matrix of observers and targets, as the tables that an import leaves."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sweep.storage.schemas import SCHEMAS

Answers = NDArray[np.float64]
"""1 where an observer chose option a, 0 where option b, NaN where there is no answer; (observers, targets)."""
START = datetime(2026, 1, 31)


def write_human(
    root: Path,
    answers: Answers,
    *,
    conditions: tuple[str, str] = ("pre0-identity", "pre1-identity"),
    options: tuple[int, int] = (1, 2),
    experiment: str = "e1",
) -> None:
    """Write the tables of an experiment.

    Target j is class `id<j>` on image `img<j>`; its options are the classes `options` further on, as the models of
    `tests.queries.simulated` mostly choose them. A session that answers nothing is there, and a catch trial without use.
    """
    observers, targets = answers.shape

    def name(j: int) -> str:
        return f"id{j % targets:02d}"

    def trial(j: int) -> dict[str, object]:
        a, b = (j + step for step in options)
        catch = j == targets
        return {
            "experiment_id": experiment,
            "list": 1,
            "position": j + 1,
            "block": 1,
            "trial_id": f"t{j:03d}",
            "trial_type": "catch" if catch else "test",
            "target": name(j),
            "target_image": f"img{j % targets:02d}",
            "condition_a": conditions[0],
            "condition_b": conditions[1],
            "option_a": name(a),
            "option_b": name(b),
            "image_a": f"img{a % targets:02d}",
            "image_b": f"img{b % targets:02d}",
            "left": "a",
            "expected": "a" if catch else None,
            "ambiguous": None if catch else j % 3 == 0,
        }

    def response(i: int, j: int, choice: str, seconds: float = 1.0) -> dict[str, object]:
        return {
            "experiment_id": experiment,
            "session_id": f"s{i:03d}",
            "subject_id": f"o{i:03d}",
            "list": 1,
            "position": j + 1,
            "trial_id": f"t{j:03d}",
            "onset": float(j),
            "response_time": seconds,
            "side": "left" if choice == "a" else "right",
            "choice": choice,
            "source": "key",
            "hidden": False,
            "resumed": False,
            "image_px": 224.0,
        }

    def session(i: int, reason: str = "") -> dict[str, object]:
        return {
            "experiment_id": experiment,
            "session_id": f"s{i:03d}",
            "subject_id": f"o{i:03d}",
            "list": 1,
            "consented": START,
            "started": START,
            "n_test": targets,
            "n_catch": 1,
            "n_catch_right": 1,
            "excluded": bool(reason),
            "reason": reason,
        }

    responses = [
        response(i, j, "ba"[int(answers[i, j])])
        for i in range(observers)
        for j in range(targets)
        if not np.isnan(answers[i, j])
    ]
    responses += [response(i, targets, "a") for i in range(observers)]
    # What must count for nothing: somebody who is excluded, and answers that came too fast.
    responses += [response(900, j, "a") for j in range(targets)]
    responses += [response(i, j, "a", seconds=0.05) for i, j in np.argwhere(np.isnan(answers))[:3].tolist()]
    sessions = [*(session(i) for i in range(observers)), session(900, "3 of 10 catch trials right")]
    folder = root / "human" / experiment
    folder.mkdir(parents=True)
    for table, rows in {
        "trials": [trial(j) for j in range(targets + 1)],
        "responses": responses,
        "sessions": sessions,
    }.items():
        content = pa.Table.from_pylist(rows, schema=SCHEMAS[f"human_{table}"])
        pq.write_table(content, folder / f"{table}.parquet")
