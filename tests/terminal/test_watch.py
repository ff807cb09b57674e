"""Watching a study from outside: what is shown follows what is stored."""

import codecs
import io
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from sweep.plan import Plan, make_plan
from sweep.stages import columns_of, images, stages_of
from sweep.storage.store import Store
from sweep.terminal.progress import time_left
from sweep.terminal.watch import STILL, WINDOW, Watched, watch
from tests.report.simulated import simulate
from tests.studies import SWEEP, SmallStudy, sweep


def store_of(study: SmallStudy) -> tuple[Plan, Store]:
    return make_plan(study.path), Store(str(study.path.parent / "results" / "small"))


def test_rate_and_time_left_follow_from_what_was_stored_over_time() -> None:
    stage = Watched("masking", 100)
    for moment, stored in ((0.0, 10), (5.0, 20), (10.0, 30)):
        stage.look(moment, stored)
    assert stage.rate == pytest.approx(2)
    assert stage.left == "0:35 left"


def test_a_rate_forgets_what_was_long_ago() -> None:
    stage = Watched("masking", 10_000)
    stage.look(0.0, 0)
    for moment in range(1, 100):
        stage.look(float(10 * moment), 1000 + moment)
    assert stage.rate == pytest.approx(0.1)
    assert stage.seen[-1][0] - stage.seen[0][0] <= WINDOW


@pytest.mark.parametrize(
    ("seconds", "shown"), [(65, "1:05 left"), (7200, "2:00:00 left"), (0.4, "0:00 left")]
)
def test_times_are_written_as_clocks(seconds: float, shown: str) -> None:
    assert time_left(seconds) == shown


class Story:
    """A clock whose pauses are when things happen: the n-th pause runs the n-th event."""

    def __init__(self, *events: Callable[[], None]) -> None:
        self.now, self.events = 0.0, list(events)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 30.0)
        self.events.pop(0)()


def test_plain_lines_tell_every_stage_as_it_moves_and_end_by_themselves(small_study: SmallStudy) -> None:
    plan, store = store_of(small_study)
    output = io.StringIO()
    story = Story(lambda: None, lambda: None, lambda: simulate(plan, store))
    watch(plan, store, Console(file=output, width=200), story.clock, story.sleep)
    lines = output.getvalue().splitlines()
    counts = {name: len(stage.units(plan)) for name, stage in stages_of(plan).items()}
    assert lines[: len(counts)] == [f"{name}: 0/{count}" for name, count in counts.items()]
    assert lines[len(counts)] == f"nothing new for {STILL:.0f} s: is a `sweep run` at work?"
    assert lines[len(counts) + 1 : -1] == [f"{name}: {count}/{count}" for name, count in counts.items()]
    assert lines[-1] == "complete"
    assert not story.events


def test_a_complete_study_is_said_to_be_so_at_once(small_study: SmallStudy) -> None:
    simulate(*store_of(small_study))
    done = sweep("status", small_study.path, "--watch", cwd=small_study.path.parent)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "complete"
    assert done.stderr == ""


def test_a_terminal_shows_bars_and_ctrl_c_leaves_quietly(small_study: SmallStudy) -> None:
    plan, store = store_of(small_study)
    store.write(images.unit(plan), plan.images.table, columns_of(plan, "images"))
    seen, code = watched(small_study.path, until="1/1")
    assert code == 0
    assert re.search(r"images +\S*━+\S* +1/1", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen))
    assert "Traceback" not in seen


def watched(study: Path, until: str) -> tuple[str, int]:
    """What `sweep status --watch` shows on a terminal of its own, with Ctrl-C after `until`, and its exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [SWEEP, "status", study, "--watch"],
        cwd=study.parent,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
    )
    os.close(theirs)
    seen, decoder, asked = "", codecs.getincrementaldecoder("utf-8")(), False
    try:
        # Read to the end: a terminal that nobody reads stops whoever writes to it.
        with suppress(OSError):  # which is how a terminal says that its last user is gone
            while shown := os.read(ours, 10_000):
                seen += decoder.decode(shown)
                if until in seen and not asked:
                    process.send_signal(signal.SIGINT)
                    asked = True
        return seen, process.wait(60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
