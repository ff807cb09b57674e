"""Two studies side by side: what differs in their settings, and what each says of accuracy, validity, transfer and area."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sweep.analysis.queries import run_query
from sweep.analysis.sql import run_sql
from sweep.storage.checksums import STUDY
from sweep.storage.store import Store
from sweep.study import Study, parse_study

BIN = ["condition", "relation", "fill", "control"]
"""What a row of `transfer` is about."""


@dataclass(frozen=True)
class Stored:
    """The results of one study."""

    root: str
    """Folder or address of its tables."""
    study: Study
    """Its study file, as it was run."""
    index: bytes | None = None
    """As in `run_query`."""


@dataclass(frozen=True)
class Comparison:
    """Two studies, a and b, side by side. Columns that end in _a and _b are those of one study, and NaN where it has no such row."""

    names: tuple[str, str]
    """The names of the studies a and b."""
    settings: pd.DataFrame
    """Settings that differ: setting, a, b; empty text where a study has none of that name."""
    accuracy: pd.DataFrame
    """Models and their mean accuracy on images held back, by condition."""
    validity: pd.DataFrame
    """Specific loss of own masks with its 95 % interval, by condition, fill and control; whether it lies above 0."""
    transfer: pd.DataFrame
    """Transfer index of each bin with its 95 % interval, by condition, fill and control; `overlap` says whether the two
    intervals have a value in common (None where one is missing)."""
    auc: pd.DataFrame
    """Mean area under accuracy over log10(percent removed) of each bin, by condition and fill, and b - a."""


def stored(root: str) -> Stored:
    """The results in a folder or at an address. Raises WorkError where there are none."""
    path = Path(STUDY) if "://" in root else Path(root, STUDY)
    return Stored(root, parse_study(path, Store(root).read_file(STUDY)))


def compare(a: Stored, b: Stored) -> Comparison:
    """Compare two studies by their tables; neither needs its images or weights.

    Bins are matched by condition, bin, fill and control. An overlap of two 95 % intervals does not show that two indices
    are equal, and two intervals that just overlap can belong to indices that differ.
    """
    auc = _joined(_areas(a), _areas(b), ["condition", "relation", "fill"])
    auc["difference"] = auc["auc_b"] - auc["auc_a"]
    rows_a, rows_b = (_transfer(one) for one in (a, b))
    transfer = _joined(_others(rows_a), _others(rows_b), BIN)
    transfer["overlap"] = [overlap(row) for row in transfer.to_dict("records")]
    return Comparison(
        (a.study.name, b.study.name),
        pd.DataFrame(list(_differences(a.study, b.study)), columns=["setting", "a", "b"]),
        _joined(_accuracies(a), _accuracies(b), ["condition"]),
        _joined(_own(rows_a), _own(rows_b), ["condition", "fill", "control"]),
        transfer,
        auc,
    )


def overlap(row: Mapping[Any, Any]) -> bool | None:
    """Whether the intervals of a row (low_a, high_a, low_b, high_b) have a value in common; None where one is missing."""
    ends = [row[name] for name in ("low_a", "high_a", "low_b", "high_b")]
    if any(pd.isna(end) for end in ends):
        return None
    return bool(max(ends[0], ends[2]) <= min(ends[1], ends[3]))


def _own(rows: pd.DataFrame) -> pd.DataFrame:
    """Of the rows of `transfer`, those of own masks."""
    columns = ["condition", "fill", "control", "loss", "loss_low", "loss_high", "validated"]
    return rows.loc[rows["relation"] == "same_init", columns]


def _others(rows: pd.DataFrame) -> pd.DataFrame:
    """Of the rows of `transfer`, those of masks by other models."""
    return rows.loc[rows["relation"] != "same_init", [*BIN, "transfer", "low", "high"]]


def _joined(a: pd.DataFrame, b: pd.DataFrame, on: Sequence[str]) -> pd.DataFrame:
    joined = a.merge(b, how="outer", on=list(on), suffixes=("_a", "_b"))
    return joined.sort_values(list(on), ignore_index=True)


def _accuracies(one: Stored) -> pd.DataFrame:
    statement = (
        "SELECT condition, count(*) AS models, avg(val_accuracy) AS accuracy FROM models JOIN conditions USING (model_id) "
        "GROUP BY condition"
    )
    answer: pd.DataFrame = run_sql(statement, one.root, one.index).to_pandas()
    return answer


def _areas(one: Stored) -> pd.DataFrame:
    """Mean area of each bin under every fill of the study."""
    bins = pd.concat(
        [
            run_query("bins", one.root, {"fill": fill}, index=one.index).to_pandas()
            for fill in one.study.masking.fills
        ]
    )
    means: pd.DataFrame = bins.groupby(["condition", "relation", "fill"], as_index=False)[["auc_log"]].mean()
    return means.rename(columns={"auc_log": "auc"})


def _transfer(one: Stored) -> pd.DataFrame:
    seed = one.study.analysis.draw_seed
    answer: pd.DataFrame = run_query("transfer", one.root, {"draw_seed": seed}, index=one.index).to_pandas()
    return answer


def _differences(a: Study, b: Study) -> Iterator[tuple[str, str, str]]:
    """Settings that differ, with both values, in the order of the study file. Names of studies are none."""
    of_a, of_b = (dict(_flat("", study.model_dump(mode="json"))) for study in (a, b))
    for name in dict.fromkeys([*of_a, *of_b]):
        values = (of_a.get(name, ""), of_b.get(name, ""))
        if values[0] != values[1] and name != "name":
            yield name, *values


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, list | tuple):
        yield name, ", ".join(map(str, value))
    else:
        yield name, str(value)
