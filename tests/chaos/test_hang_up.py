"""The terminal of a run is closed: what its workers are at is finished, and everything is closed in good order."""

import os
import pty
import signal
from pathlib import Path

import pytest

from sweep.plan import make_plan
from sweep.runs.holder import read_holder
from sweep.storage.store import Store
from tests.chaos.harness import RUN_SECONDS, assert_whole, descendants, kill, run, stored, wait_until
from tests.chaos.test_chaos import chaos_study
from tests.runs.test_endings import statuses
from tests.studies import SWEEP


def hears_hang_ups(process: int) -> bool:
    """Whether a hang-up would reach a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    masks = {
        name: int(value, 16)
        for name, value in (
            line.split(":") for line in lines if line.startswith("Sig") and "SigQ" not in line
        )
    }
    return not (masks["SigBlk"] | masks["SigIgn"]) >> (signal.SIGHUP - 1) & 1


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_run_whose_terminal_is_closed_ends_in_good_order(tmp_path: Path) -> None:
    study = chaos_study(tmp_path / "study")
    root = study.path.parent / "results" / "small"
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(study.path.parent)
        os.execv(SWEEP, [str(SWEEP), "run", study.path.name])
    shown = os.fdopen(terminal, "rb", buffering=0)
    os.set_blocking(terminal, False)
    try:
        ended: list[int] = []

        def has_relevance() -> bool:
            shown.read(1 << 16)
            return bool(list(root.glob("relevance/*.parquet")))

        assert wait_until(has_relevance, RUN_SECONDS)
        computing = list(descendants(process))
        assert computing
        assert not [child for child in computing if hears_hang_ups(child)]
        before = stored(root)
        shown.close()

        def has_ended() -> bool:
            found, status = os.waitpid(process, os.WNOHANG)
            ended.extend([os.waitstatus_to_exitcode(status)] if found else [])
            return bool(ended)

        assert wait_until(has_ended, 60)
    finally:
        kill(process)
    assert ended == [130]
    assert stored(root) >= before
    assert read_holder(Store(str(root)).files) is None
    plan = make_plan(study.path)
    assert statuses(study) == {"small": "KILLED", **{model.id: "FINISHED" for model in plan.models}}
    run(study)
    assert_whole(plan, root)
