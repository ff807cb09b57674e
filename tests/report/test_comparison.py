"""Two studies side by side, from the command line and from Python."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import sweep
from sweep.plan import make_plan
from sweep.report.comparison import overlap
from sweep.stages import index_of_study
from sweep.storage.checksums import STUDY, write_files
from sweep.storage.index import INDEX
from sweep.storage.store import Store
from tests import studies
from tests.report.simulated import simulate


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two studies: b has one more seed, another fill, one task less, and models twice as sensitive."""
    place = tmp_path_factory.mktemp("compared")
    small = studies.write_small_study(place)
    cases: tuple[tuple[str, dict[str, Any], float], ...] = (
        ("a", {}, 0.5),
        (
            "b",
            {"factors": {"seed": [1, 2, 3], "task": ["identity"]}, "masking": {"fills": ["linear", "mean"]}},
            1.0,
        ),
    )
    for name, changes, sensitivity in cases:
        study = small.changed(**changes)
        (place / f"{name}.yaml").write_text(study.path.read_text().replace("name: small", f"name: {name}"))
        plan = make_plan(place / f"{name}.yaml")
        store = Store(str(place / "results" / name))
        simulate(plan, store, lambda _, by=sensitivity: by)  # type: ignore[misc]
        write_files(store, {STUDY: plan.source, INDEX: index_of_study(plan)})
    return place


def test_tables_hold_what_the_queries_say_of_each(place: Path) -> None:
    a, b = (sweep.Result.open(place / f"{name}.yaml", place / "results") for name in "ab")
    found = sweep.compare(a, b)
    assert found.names == ("a", "b")
    settings = {row["setting"]: (row["a"], row["b"]) for row in found.settings.to_dict("records")}
    assert settings == {
        "factors.seed": ("1, 2", "1, 2, 3"),
        "factors.task": ("identity, gender", "identity"),
        "masking.fills": ("mean", "linear, mean"),
    }
    counts = {
        row["condition"]: (row["models_a"], row["models_b"]) for row in found.accuracy.to_dict("records")
    }
    assert counts["first-identity"] == (2, 3)
    assert pd.isna(counts["first-gender"][1])
    for result, end in ((a, "_a"), (b, "_b")):
        for asked in result.query("transfer").to_dict("records"):
            same = (found.transfer if asked["relation"] != "same_init" else found.validity).query(
                f"condition == {asked['condition']!r} and fill == {asked['fill']!r} and control == {asked['control']!r}"
            )
            if asked["relation"] != "same_init":
                same = same[same["relation"] == asked["relation"]]
                assert same[f"transfer{end}"].item() == pytest.approx(asked["transfer"], nan_ok=True)
            else:
                assert same[f"loss_low{end}"].item() == pytest.approx(asked["loss_low"], nan_ok=True)
                assert same[f"validated{end}"].item() == asked["validated"]
    shared = found.auc.dropna()
    assert len(shared)
    assert set(shared["fill"]) == {"mean"}
    # The models of b withstand less.
    own = shared[shared["relation"] == "same_init"]
    assert (own["difference"] < 0).all()


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((0, 1, 0.5, 2), True),
        ((0, 1, 1, 2), True),
        ((0, 1, 1.1, 2), False),
        ((1.1, 2, 0, 1), False),
        ((0, 3, 1, 2), True),
        ((0, None, 1, 2), None),
        ((0, float("nan"), 1, 2), None),
    ],
)
def test_intervals_overlap_where_they_share_a_value(ends: tuple[float, ...], expected: bool | None) -> None:
    names = ("low_a", "high_a", "low_b", "high_b")
    assert overlap(dict(zip(names, ends, strict=True))) is expected


def test_the_command_takes_files_names_and_folders(place: Path) -> None:
    (done, same) = (
        studies.sweep("compare", *named, cwd=place) for named in (("a.yaml", "results/b"), ("a", "a"))
    )
    assert done.returncode == 0, done.stderr
    assert "factors.seed   1, 2" in done.stdout
    assert "Transfer index, 95 % interval" in done.stdout
    assert "Settings that differ: none" in same.stdout
    wrong = studies.sweep("compare", "a", "c", cwd=place)
    assert wrong.returncode == 2
    assert "c: is no study file" in wrong.stderr
