"""A results root that refuses: for half a minute, which a run waits for, and for good, which ends it in good order."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.plan import make_plan
from sweep.stages import STAGES
from sweep.storage.files import PATIENCE
from sweep.storage.store import Store
from tests.chaos.harness import RUN_SECONDS, assert_whole, contents, run, running, stored, wait_until
from tests.chaos.test_chaos import chaos_study
from tests.studies import SmallStudy

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(2400)]
OUTAGE = 30.0


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of 48 MB."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"needs leave to mount a file system: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    return chaos_study(tmp_path_factory.mktemp("refused") / "study")


@pytest.fixture(autouse=True)
def _history_elsewhere(study: SmallStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the tables' disk is at stake."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{study.path.parent}/mlflow.db")


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue


def test_a_store_that_refuses_writes_for_half_a_minute_is_waited_for(study: SmallStudy, disk: Path) -> None:
    root, log = disk / "brief" / "small", study.path.parent / "run.log"
    with running(study, "--results", str(disk / "brief")) as process:
        assert wait_until(lambda: stored(root) >= 15, RUN_SECONDS, process), log.read_text()
        remount(disk, "ro")
        time.sleep(OUTAGE)
        remount(disk, "rw")
        assert process.wait(RUN_SECONDS) == 0, log.read_text()
    told = " ".join(log.read_text().split())
    assert "cannot be read or written: [Errno 30]" in told
    assert f"(waiting for up to {PATIENCE:.0f} s)" in told
    assert "answers again" in told
    assert_whole(make_plan(study.path), root)


def test_a_full_disk_ends_a_run_in_good_order_and_it_resumes(study: SmallStudy, disk: Path) -> None:
    root, log = disk / "full" / "small", study.path.parent / "run.log"
    log.write_text("")
    with running(study, "--results", str(disk / "full")) as process:
        assert wait_until(lambda: stored(root) >= 15, RUN_SECONDS, process), log.read_text()
        fill(disk / "filler")
        assert process.wait(RUN_SECONDS) == 1, log.read_text()
    told = " ".join(log.read_text().split())
    assert "Traceback" not in told
    assert told.count("sweep: ") == 1
    assert f"sweep: {root}: the disk is full; free some space, then run the same command again" in told
    plan, before = make_plan(study.path), contents(root)
    assert [unit for unit in STAGES["features"].units(plan) if Store(str(root)).damage(unit)] == []

    (disk / "filler").unlink()
    run(study, "--results", str(disk / "full"))
    assert_whole(plan, root)
    after = contents(root)
    assert {name: after[name] for name in before} == before
    brief = disk / "brief" / "small"
    if brief.exists():
        assert contents(brief) == after
