"""The exported R script runs in R, and lme4's numbers are those of the SQL (`make test-r`)."""

import csv
import math
import shutil
import subprocess
from pathlib import Path

import pytest

import sweep
from sweep.keys import generator
from sweep.plan import make_plan
from sweep.storage.store import Store
from tests.report.simulated import simulate
from tests.studies import write_small_study

pytestmark = pytest.mark.r


def has_lme4() -> bool:
    if not shutil.which("Rscript"):
        return False
    return (
        subprocess.run(["Rscript", "-e", "library(lme4)"], capture_output=True, check=False).returncode == 0
    )


def sensitivity(destination: str) -> float:
    """Models differ, as people do; without that there is no variance between them for lme4 to find."""
    return float(generator("sensitivity", destination).uniform(0.4, 1.6))


def results_in_r(tmp_path: Path, differ: bool, pretrainings: int) -> list[dict[str, str]]:
    """What the script writes for a study of `pretrainings` x 2 tasks x 4 seeds."""
    if not has_lme4():
        pytest.skip("needs R with lme4: apt-get install r-base-core r-cran-lme4")
    study = write_small_study(tmp_path)
    levels = dict(list(study.content["factors"]["pretraining"].items())[:pretrainings])
    study = study.changed(
        factors={"pretraining": levels, "seed": [1, 2, 3, 4]}, masking={"fills": ["mean", "linear"]}
    )
    plan = make_plan(study.path)
    store = Store(str(tmp_path / "results" / "small"))
    simulate(plan, store, sensitivity if differ else lambda _: 1.0)
    sweep.Result(plan, store).export(tmp_path / "out")
    done = subprocess.run(
        ["Rscript", "analysis/tests.R"], cwd=tmp_path / "out", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "analysis" / "tests-lme4.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["condition"] in done.stdout for row in rows)
    return rows


def test_lme4_gives_the_f_of_the_sql(tmp_path: Path) -> None:
    rows = results_in_r(tmp_path, differ=True, pretrainings=2)
    # Per fill: 3 effects x 2 tasks, and 4 kinds of destination model.
    assert len(rows) == 2 * (3 * 2 + 4)
    same = [row for row in rows if row["singular"] == "FALSE"]
    assert {(row["test"], row["effect"]) for row in same} == {
        ("initialisation", "pretraining"),
        ("initialisation", "mask_source"),
        ("initialisation", "pretraining:mask_source"),
        ("source", "mask_source"),
    }
    assert len(same) > len(rows) / 2
    for row in same:
        assert float(row["f_lme4"]) == pytest.approx(float(row["f_sql"]), rel=1e-4, abs=1e-6), row
    told = {(r["fill"], r["task"], r["condition"], r["effect"]): float(r["p_lme4"]) for r in same}
    for query in ("anova_initialisation", "anova_source"):
        for fill in ("mean", "linear"):
            result = sweep.Result.open(tmp_path / "study.yaml", tmp_path / "results")
            for asked in result.query(query, fill=fill).to_dict("records"):
                key = (fill, asked["task"], asked.get("condition", ""), asked.get("effect", "mask_source"))
                if asked["design"] != "between" and key in told:
                    assert told.pop(key) == pytest.approx(asked["p"], rel=1e-3)
    assert not told


def test_where_models_do_not_differ_lme4_says_singular(tmp_path: Path) -> None:
    rows = results_in_r(tmp_path, differ=False, pretrainings=1)
    assert {row["test"] for row in rows} == {"initialisation", "source"}
    assert {row["effect"] for row in rows} == {"mask_source"}
    assert any(row["singular"] == "TRUE" for row in rows)
    assert all(math.isfinite(float(row["f_lme4"])) for row in rows)
