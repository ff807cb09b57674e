"""Queries that are asked while figures are drawn: DuckDB and matplotlib wait for each other nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from sweep.report.answers import Answers

NEEDED = (
    "auc",
    "similarity",
    "pair_transfer",
    "rank2",
    "control_curves",
    "losses",
    "transfer",
    "curves",
    "bins",
    "initialisation",
    "source",
    "effects",
    "pairwise",
)
"""What every report asks, in the order in which it does."""


@contextmanager
def asked_ahead(answers: Answers) -> Iterator[None]:
    """Ask in a thread what the block will need; what fails there is asked again, and told, by whoever needs it."""
    ended = Event()

    def ask() -> None:
        for name in NEEDED:
            if ended.is_set():
                return
            with suppress(Exception):
                getattr(answers, name)

    thread = Thread(target=ask, name="asked ahead", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
