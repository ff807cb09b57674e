"""A whole study on an S3-compatible server: run, killed, gone on with, checked, repaired and queried."""

import json
from pathlib import Path

import pytest

from sweep.files import Files
from sweep.plan import STAGES, make_plan
from sweep.store import DAMAGED, Store
from tests.chaos.harness import RUN_SECONDS, TABLES, kill, run, running, wait_until
from tests.chaos.test_chaos import chaos_study
from tests.studies import sweep


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_study_on_an_object_store(bucket: str, tmp_path: Path) -> None:
    study = chaos_study(tmp_path / "study")
    folder, log = study.path.parent, study.path.parent / "run.log"
    results = ["--results", f"{bucket}/results"]
    store, plan = Store(f"{bucket}/results/small"), make_plan(study.path)

    def stored() -> int:
        return sum(len(store.files.names(table)) for table in TABLES)

    with running(study, *results) as process:
        assert wait_until(lambda: stored() > 12, RUN_SECONDS, process), log.read_text()
        refused = sweep("run", study.path, *results, cwd=folder)
        assert refused.returncode == 1
        assert "study.yaml is being run already (by process" in refused.stderr
        kill(process.pid)
        assert process.wait() == -9
    run(study, *results)
    assert set(Files(store.root).names("")) == {"study.yaml", ".checksums.json"}
    assert store.files.names(".tmp") == []
    assert [unit for stage in STAGES for unit in store.missing(plan.units(stage))] == []

    damaged = plan.units("relevance")[0]
    content = bytearray(store.read_file(damaged.path))
    content[len(content) // 2] ^= 1
    store.write_file(damaged.path, bytes(content))
    checked = sweep("status", study.path, *results, "--check", cwd=folder)
    assert checked.returncode == 1
    assert f"{damaged.path} does not match its checksum" in checked.stderr
    assert store.files.names(f"relevance/{DAMAGED}") == [damaged.name]
    run(study, *results)
    assert sweep("status", study.path, *results, "--check", cwd=folder).returncode == 0

    answer = sweep("query", "bins", *results, "--format", "json", cwd=folder)
    assert {row["relation"] for row in json.loads(answer.stdout)} >= {
        "same_init",
        "other_pretraining",
        "random",
    }
    assert not (folder / "results").exists()
