"""What failed is kept until it is stored after all."""

from pathlib import Path

import pytest

from sweep.keys import key_of
from sweep.runs.failures import FOLDER, failed, record, recorded
from sweep.storage.store import Store, Unit

A, B, C = (Unit("masked", name, key_of(name), 1) for name in "abc")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_failures_are_kept_and_told_while_their_units_are_missing(store: Store) -> None:
    failure = failed("masking", [A, B], "ValueError: poisoned")
    assert str(failure) == "masking: a (2 units): ValueError: poisoned"
    record(store, [failure], [A, B, C])
    assert recorded(store, [B, C]) == [failure]
    assert recorded(store, [C]) == []


def test_a_failure_is_forgotten_once_its_units_are_stored(store: Store) -> None:
    record(store, [failed("masking", [A], "one"), failed("masking", [C], "two")], [A, C])
    assert len(store.files.names(FOLDER)) == 2
    record(store, [failed("masking", [A], "again")], [A])
    assert [failure.reason for failure in recorded(store, [A, B, C])] == ["again"]
    record(store, [], [])
    assert store.files.names(FOLDER) == []


def test_a_record_that_cannot_be_read_is_dropped(store: Store) -> None:
    store.write_file(f"{FOLDER}/masked.a.json", b"{half")
    assert recorded(store, [A]) == []
    record(store, [], [A])
    assert store.files.names(FOLDER) == []
