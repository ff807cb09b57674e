"""A run's hold on its results root: what the store's refusals lead to."""

from pathlib import Path

import pytest
from rich.console import Console

from sweep.plan import make_plan
from sweep.runs import run
from sweep.runs.interrupt import Interrupts
from sweep.storage.store import Store
from sweep.terminal.progress import Display
from tests.studies import SmallStudy


def test_a_store_that_refuses_for_long_ends_the_run_and_says_so_once(
    small_study: SmallStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second time would drop what is in flight, a third would disturb what closes the run."""
    asked: list[tuple[float, str]] = []
    interrupts, clock = Interrupts(lambda _: None), [0.0]
    monkeypatch.setattr(interrupts, "ask", lambda end: asked.append((clock[0], str(end))))
    monkeypatch.setattr("sweep.runs.run.time.monotonic", lambda: clock[0])
    store = Store(str(tmp_path / "root"))
    lease = run.hold(make_plan(small_study.path), store, Display(Console(quiet=True)), interrupts)
    for clock[0] in (0.0, 60.0, 91.0, 94.0, 97.0):
        lease._on_trouble("full")
    lease._on_trouble(None)
    for clock[0] in (200.0, 285.0, 291.0, 294.0):
        lease._on_trouble("full again")
    assert asked == [(91.0, "full"), (291.0, "full again")]
