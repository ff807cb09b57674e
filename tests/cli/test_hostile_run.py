"""A whole run in surroundings that are all against it gives the numbers of a quiet one."""

from pathlib import Path

import numpy as np
import pytest

from sweep.plan import Plan, make_plan
from sweep.stages import STAGES
from sweep.storage.arrays import matrix
from sweep.storage.store import Store
from tests.cli.test_surroundings import ODD, command, home, hostile
from tests.in_process import run_in_process
from tests.studies import write_small_study

__all__ = ["home"]


@pytest.mark.chaos
def test_a_run_in_hostile_surroundings(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ODD
    folder.mkdir()
    study = write_small_study(folder).changed(
        factors={"task": ["identity"], "seed": [1]}, finetune={"epochs": 2}
    )
    temporary = tmp_path / ("t" * 100)
    temporary.mkdir()
    # Modules of these names are looked for in the working directory by whoever is careless.
    for name in ("scipy.py", "keras.py", "PIL.py"):
        (folder / name).write_text("raise SystemExit('not this one')\n")
    environment = hostile(home) | {"TMPDIR": str(temporary), "RAY_ADDRESS": ""}
    done = command("run", "study.yaml", cwd=folder, environment=environment, umask=0o077, timeout=500)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert "Traceback" not in said
    assert "MLflow" not in said
    assert "Warning" not in said
    made = {path.name for path in folder.iterdir()}
    assert {"results", "faces", "study.yaml"} <= made

    plan = make_plan(study.path)
    run, quiet = Store(f"{folder}/results/small"), Store(str(tmp_path / "quiet"))
    run_in_process(plan, quiet)
    for table, column in (("relevance", "map"), ("masked", "target_logit"), ("predictions", "logit")):
        found, expected = (values(plan, store, table, column) for store in (run, quiet))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert (folder / "results" / "mlflow.db").is_file()


def values(plan: Plan, store: Store, table: str, column: str) -> np.ndarray:
    units = [unit for stage in STAGES.values() for unit in stage.units(plan) if unit.table == table]
    found = store.read(units, columns=[column])[column]
    return matrix(found) if column == "map" else found.to_numpy()
