"""Whole studies on an S3-compatible server: run, killed, gone on with, checked, repaired and queried."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.plan import make_plan
from sweep.stages import STAGES, all_units
from sweep.storage.files import Files
from sweep.storage.store import DAMAGED, Store
from tests.chaos.harness import RUN_SECONDS, TABLES, flipped, kill, run, running, wait_until
from tests.chaos.test_chaos import chaos_study
from tests.studies import SmallStudy, sweep

DEMO = Path(__file__).resolve().parents[2] / "studies" / "demo.yaml"


def killed_after(units: int, study: SmallStudy, store: Store, results: list[str]) -> None:
    """A run whose driver is killed once so many units are stored; meanwhile a second run is refused."""
    log = study.path.parent / "run.log"

    def stored() -> int:
        return sum(len(store.files.names(table)) for table in TABLES)

    with running(study, *results) as process:
        assert wait_until(lambda: stored() > units, RUN_SECONDS, process), log.read_text()
        refused = sweep("run", study.path, *results, cwd=study.path.parent)
        assert refused.returncode == 1
        assert "is being run already (by process" in refused.stderr
        kill(process.pid)
        assert process.wait() == -9


def answer(name: str, results: list[str], folder: Path, *options: str) -> list[dict[str, Any]]:
    done = sweep("query", name, *results, *options, "--format", "json", cwd=folder)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_study_on_an_object_store(bucket: str, tmp_path: Path) -> None:
    study = chaos_study(tmp_path / "study")
    folder, results = study.path.parent, ["--results", f"{bucket}/results"]
    store, plan = Store(f"{bucket}/results/small"), make_plan(study.path)
    killed_after(12, study, store, results)
    run(study, *results)
    assert set(Files(store.root).names("")) == {
        "study.yaml",
        "index.parquet",
        ".checksums.json",
        ".tracking.json",
    }
    assert store.files.names(".tmp") == []
    assert store.missing(all_units(plan)) == []

    damaged = STAGES["relevance"].units(plan)[0]
    store.write_file(damaged.path, flipped(store.read_file(damaged.path)))
    store.write_file("report/index.html", b"<p>other")
    checked = sweep("status", study.path, *results, "--check", cwd=folder)
    assert checked.returncode == 1
    for path in (damaged.path, "report/index.html"):
        assert f"{store.root}/{path} does not match its checksum" in checked.stderr
    assert store.files.names(f"relevance/{DAMAGED}") == [damaged.name]
    run(study, *results)
    assert sweep("status", study.path, *results, "--check", cwd=folder).returncode == 0

    relations = {row["relation"] for row in answer("bins", results, folder)}
    assert relations >= {"same_init", "other_pretraining", "random"}
    assert not (folder / "results").exists()


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_the_demo_on_an_object_store_is_the_demo(bucket: str, tmp_path: Path) -> None:
    """Killed among its maps and again among its masks, it ends with the bytes and answers of a local run."""
    shutil.copy(DEMO, tmp_path / "demo.yaml")
    demo = SmallStudy(tmp_path / "demo.yaml", yaml.safe_load(DEMO.read_text()))
    plan = make_plan(demo.path)
    remote, local = ["--results", f"{bucket}/sweeps"], ["--results", str(tmp_path / "here")]
    store, here = Store(f"{bucket}/sweeps/demo"), Store(str(tmp_path / "here" / "demo"))
    first = sum(len(STAGES[stage].units(plan)) for stage in ("images", "features", "finetune", "predictions"))
    killed_after(first, demo, store, remote)
    killed_after(len(all_units(plan)) - 100, demo, store, remote)
    run(demo, *remote)
    run(demo, *local)
    for unit in all_units(plan):
        if unit.table != "models":  # these name runs of MLflow
            assert store.read_file(unit.path) == here.read_file(unit.path), unit.path
    assert sweep("status", demo.path, *remote, "--check", cwd=tmp_path).returncode == 0
    for name in ("bins", "anova_source", "anova_initialisation"):
        rows = answer(name, remote, tmp_path)
        assert rows
        # Sums of floats are only the same to their last bits: DuckDB adds them up as its threads come.
        assert rows == [pytest.approx(row) for row in answer(name, local, tmp_path)]
