"""The store: whole files or none, found by key, parked and brought back."""

from pathlib import Path

import pyarrow as pa
import pytest

from sweep.errors import WorkError
from sweep.store import Store, Unit

SCHEMA = pa.schema([pa.field("value", pa.int64())])


def unit(label: str, *, table: str = "masked", rows: int = 2) -> Unit:
    from sweep.keys import key_of

    return Unit(table, label, key_of(label), rows)


def rows(*values: int) -> pa.Table:
    return pa.table({"value": list(values)}, schema=SCHEMA)


def test_what_is_written_is_found_and_read_in_order(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "results with space"))
    a, b, c = unit("a--b.0000"), unit("b"), unit("c")
    assert store.missing([a, b, c]) == [a, b, c]
    store.write(a, rows(1, 2), SCHEMA)
    store.write(b, rows(3, 4), SCHEMA)
    assert store.missing([c, b, a]) == [c]
    assert store.read([b, a])["value"].to_pylist() == [3, 4, 1, 2]


def test_a_unit_of_the_wrong_length_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(WorkError, match="3 rows were computed where 2 were planned"):
        store.write(unit("a"), rows(1, 2, 3), SCHEMA)
    assert list(tmp_path.rglob("*.parquet")) == []


def test_a_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sweep.store.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.write(unit("a"), rows(1, 2), SCHEMA)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_writing_again_replaces(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write(unit("a"), rows(1, 2), SCHEMA)
    store.write(unit("a"), rows(1, 2), SCHEMA)
    assert store.read([unit("a")]).num_rows == 2
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_units_the_study_dropped_are_parked_and_return(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    a, b = unit("a"), unit("b")
    for each in (a, b):
        store.write(each, rows(1, 2), SCHEMA)
    store.arrange([a])
    assert sorted(path.name for path in (tmp_path / "masked").glob("*.parquet")) == [a.path.split("/")[1]]
    assert store.missing([a, b]) == [b]
    store.arrange([a, b])
    assert store.missing([a, b]) == []


def test_damage_is_named_with_the_remedy(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write(unit("a"), rows(1, 2), SCHEMA)
    path = tmp_path / unit("a").path
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(WorkError, match=r"a\.[0-9a-f]{20}\.parquet: damaged .*delete it and run again"):
        store.read([unit("a")])
    with pytest.raises(WorkError, match="no such file; run the study again"):
        store.read([unit("b")])


def test_scratch_is_empty_and_gone_afterwards(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (tmp_path / ".tune").mkdir()
    (tmp_path / ".tune" / "old").write_text("left by a run that was killed")
    with store.scratch("tune") as address:
        assert list(Path(address).iterdir()) == []
    assert not (tmp_path / ".tune").exists()
