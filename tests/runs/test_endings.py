"""Runs that do not go smoothly, on a small real study: work that fails, runs that are stopped, files that are damaged.

One story on one results root, as each chapter starts from what the one before it left.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sweep.plan import Plan, make_plan
from sweep.runs.holder import read_holder
from sweep.stages import STAGES, all_units, features, finetune, masking, relevance
from sweep.storage.store import DAMAGED, REPLACED, Store
from tests.chaos.harness import RUN_SECONDS, Fault, assert_whole, contents, flipped, run, running, wait_until
from tests.studies import SmallStudy, sweep, write_small_study

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(2400)]

POISONED = "second-identity-s2"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    folder = tmp_path_factory.mktemp("endings")
    return write_small_study(folder).changed(factors={"task": ["identity"]})


@pytest.fixture(scope="module")
def plan(study: SmallStudy) -> Plan:
    return make_plan(study.path)


@pytest.fixture(scope="module")
def root(study: SmallStudy) -> Path:
    return study.path.parent / "results" / "small"


@pytest.fixture(scope="module")
def after_poison(study: SmallStudy, root: Path) -> str:
    """What a run told in which one model cannot be stored."""
    fault = Fault(f"models/{POISONED}[.]", "poison", study.path.parent / "met", times=99)
    told = run(study, code=1, faults=[fault])
    assert fault.met == 3, told
    return told


def test_a_poisoned_model_is_tried_three_times_and_the_rest_goes_on(
    after_poison: str, study: SmallStudy, plan: Plan, root: Path
) -> None:
    assert f"sweep: finetune: {POISONED} (2 units): RuntimeError: poisoned: {POISONED}" in after_poison
    assert "not tried, as they are made from what failed: 1 of predictions, 1 of relevance, " in after_poison
    assert f"Errors: {root}/failures/" in after_poison
    missing = {unit.path for unit in Store(str(root)).missing(all_units(plan))}
    assert finetune.model_units(plan)[POISONED].path in missing
    assert relevance.units(plan)["second-identity-s1", 0].path not in missing
    # Pairs with the others of its condition are in units that leave it out.
    assert all(POISONED in path for path in missing if not path.startswith("similarity/"))
    # Its neighbours' masks are there: test_damaged_... finds them equal to those of an undisturbed run.
    assert (
        sum(path.startswith("masked/") for path in missing) == len(plan.models) + len(masking.masks(plan)) - 1
    )
    assert sorted(path.name for path in (root / "failures").iterdir()) == [
        f"models.{finetune.model_units(plan)[POISONED].name.removesuffix('.parquet')}.json"
    ]
    status = sweep("status", study.path, cwd=study.path.parent)
    assert status.returncode == 0
    assert f"failed: finetune: {POISONED} (2 units): RuntimeError: poisoned" in status.stdout
    assert not (root / ".tmp").exists()
    assert not (root / ".lease.json").exists()


def test_a_stopped_run_refuses_a_second_one_finishes_what_is_in_flight_and_says_how_to_go_on(
    after_poison: str, study: SmallStudy, plan: Plan, root: Path
) -> None:
    log, files = study.path.parent / "run.log", Store(str(root)).files
    log.write_text("")
    with running(study) as process:
        assert wait_until(lambda: read_holder(files), RUN_SECONDS, process), log.read_text()
        # At once: on a busy machine the run may be over before both were asked one after the other.
        with ThreadPoolExecutor() as both:
            second, status = both.map(
                lambda command: sweep(command, study.path, cwd=study.path.parent), ("run", "status")
            )
        assert second.returncode == 1
        (line,) = second.stderr.splitlines()
        assert line.startswith(f"sweep: {study.path} is being run already (by process {process.pid} on ")
        assert f"running: process {process.pid} on " in status.stdout
        assert wait_until(lambda: list(root.glob(f"models/{POISONED}.*")), RUN_SECONDS, process), (
            log.read_text()
        )
        before = contents(root)
        stop = sweep("stop", study.path, cwd=study.path.parent)
        assert (stop.returncode, stop.stderr) == (0, "")
        assert stop.stdout.splitlines()[-1] == f"{study.path}: stopped; go on with: sweep run {study.path}"
        assert process.wait(10) == 130
    assert (
        "stopped by `sweep stop`. What is done is stored; go on with: sweep run study.yaml" in log.read_text()
    )
    assert read_holder(files) is None
    after = contents(root)
    assert {name: after[name] for name in before} == before
    assert "Traceback" not in log.read_text()
    assert statuses(study) == {"small": "KILLED", **{model.id: "FINISHED" for model in plan.models}}
    for word in ("stop", "cancel"):
        idle = sweep(word, study.path, cwd=study.path.parent)
        assert (idle.returncode, idle.stdout) == (0, f"{study.path}: nothing runs\n")


def test_damaged_and_refreshed_files_are_set_aside_and_made_anew(
    after_poison: str, study: SmallStudy, plan: Plan, root: Path
) -> None:
    """One found by --check; then features and weights that only the run itself stumbles upon, while it refreshes."""
    run(study)
    assert_whole(plan, root)
    assert not list((root / "failures").iterdir())
    whole = contents(root)
    fresh = write_small_study(study.path.parent / "fresh").changed(factors={"task": ["identity"]})
    run(fresh)
    assert contents(fresh.path.parent / "results" / "small") == whole

    maps = relevance.units(plan)["first-identity-s1", 0]
    flip(root / maps.path)
    checked = sweep("status", study.path, "--check", cwd=study.path.parent)
    assert checked.returncode == 1
    assert f"{maps.path} does not match its checksum" in checked.stderr
    assert f"Set aside; made again by: sweep run {study.path}" in checked.stderr
    assert (root / "relevance" / DAMAGED / maps.name).exists()

    # Files that no table holds, and the checksums of those.
    others = [
        root / "study.yaml",
        root / "report" / "index.html",
        next(root.glob("figures/*.svg")),
        root / ".stages" / "masking.json",
        root / ".checksums.json",
    ]
    for path in others[:-1]:
        flip(path)
    checked = sweep("status", study.path, "--check", cwd=study.path.parent)
    flip(others[-1])
    last = sweep("status", study.path, "--check", cwd=study.path.parent)
    assert (checked.returncode, last.returncode) == (1, 1)
    for path in others:
        assert f"{path} does not match its checksum" in checked.stderr + last.stderr
        assert not path.exists()
        assert (path.parent / DAMAGED / path.name).exists()

    lost = features.units(plan)["second", 0]
    flip(root / lost.path)
    flip(next(root.glob("weights/first-identity-s1.*")))
    for path in [
        *root.glob("predictions/*.parquet"),
        root / relevance.units(plan)["first-identity-s2", 0].path,
    ]:
        path.unlink()
    assert "What was damaged is made again." in run(study, "--refresh", "similarity")
    assert contents(root) == whole
    assert all(path.exists() for path in others)
    replaced = sorted(path.name for path in (root / "similarity" / REPLACED).iterdir())
    assert replaced == sorted(unit.name for unit in STAGES["similarity"].units(plan))
    assert not (root / "relevance" / REPLACED).exists()
    assert (root / "features" / DAMAGED / lost.name).exists()
    assert sweep("status", study.path, "--check", cwd=study.path.parent).returncode == 0
    unknown = sweep("run", study.path, "--refresh", "maps", cwd=study.path.parent)
    assert unknown.returncode == 2


def flip(path: Path) -> None:
    path.write_bytes(flipped(path.read_bytes()))


def statuses(study: SmallStudy) -> dict[str, str]:
    """Status of every MLflow run, by its name."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{study.path.parent}/results/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    return {run.info.run_name: run.info.status for run in client.search_runs([experiment.experiment_id])}
