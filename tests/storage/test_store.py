"""The store: whole files or none, found by key, and damage of any kind noticed."""

import hashlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.errors import DamagedError, StoreError, WorkError
from sweep.keys import key_of
from sweep.storage.schemas import SCHEMAS, mismatch, with_extra
from sweep.storage.sealing import BrokenSeal, opened, sealed
from sweep.storage.store import DAMAGED, REPLACED, Parts, Store, Unit

SCHEMA = SCHEMAS["similarity"]


def unit(label: str, *, table: str = "similarity", rows: int = 2) -> Unit:
    return Unit(table, label, key_of(label), rows)


def rows(*values: float | None) -> pa.Table:
    ids = [f"image {index}" for index in range(len(values))]
    columns = {"image_id": ids, "model_a": ["a"] * len(ids), "model_b": ["b"] * len(ids)}
    return pa.table(columns | {"pearson": list(values)}, schema=SCHEMA)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_written_is_found_and_read_in_order(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "results with space"))
    a, b, c = unit("a--b.0000"), unit("b"), unit("c")
    assert store.missing([a, b, c]) == [a, b, c]
    store.write(a, rows(1, 2), SCHEMA)
    store.write(b, rows(3, None), SCHEMA)
    assert store.missing([c, b, a]) == [c]
    assert store.read([b, a])["pearson"].to_pylist() == [3, None, 1, 2]
    assert store.read([a], columns=["pearson"]).column_names == ["pearson"]


def test_a_unit_of_the_wrong_length_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(WorkError, match="3 rows were computed where 2 were planned"):
        store.write(unit("a"), rows(1, 2, 3), SCHEMA)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            OSError(28, "No space left on device"),
            "the disk is full; free some space, then run the same command",
        ),
        (OSError(30, "Read-only file system"), "cannot be read or written: .*Read-only file system"),
        (PermissionError(13, "Permission denied"), "cannot be read or written: .*Permission denied"),
    ],
)
def test_a_write_that_fails_leaves_no_file_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, expected: str
) -> None:
    def refuse(_: int) -> None:
        raise error

    monkeypatch.setattr("sweep.storage.files.os.fsync", refuse)
    with pytest.raises(StoreError, match=expected):
        Store(str(tmp_path), patience=0.5).write(unit("a"), rows(1, 2), SCHEMA)
    assert files(tmp_path) == []


def test_a_store_that_refuses_for_a_while_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = iter([OSError(28, "No space left on device"), OSError(5, "Input/output error")])

    def fsync(_: int) -> None:
        for refusal in refusals:
            raise refusal

    monkeypatch.setattr("sweep.storage.files.os.fsync", fsync)
    store = Store(str(tmp_path))
    store.write(unit("a"), rows(1, 2), SCHEMA)
    assert store.read([unit("a")]).num_rows == 2
    assert files(tmp_path) == [unit("a").path]


def test_writing_again_replaces_and_gives_the_same_bytes(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write(unit("a"), rows(1, 2), SCHEMA)
    before = (tmp_path / unit("a").path).read_bytes()
    store.write(unit("a"), rows(1, 2), SCHEMA)
    assert files(tmp_path) == [unit("a").path]
    assert (tmp_path / unit("a").path).read_bytes() == before


def test_the_same_rows_give_the_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from tests.storage.test_store import rows; from sweep.storage.sealing import sealed; "
        "print(hashlib.sha256(sealed(rows(1, None), 'x')).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hashlib.sha256(sealed(rows(1, None), "x")).hexdigest()


def test_any_parquet_reader_reads_a_sealed_file(tmp_path: Path) -> None:
    import duckdb

    Store(str(tmp_path)).write(unit("a"), rows(1, 2), SCHEMA)
    path = tmp_path / unit("a").path
    assert pq.read_table(path).equals(rows(1, 2))
    with duckdb.connect() as connection:
        connection.execute("SELECT sum(pearson) FROM read_parquet(?)", [str(path)])
        assert connection.fetchall() == [(3.0,)]
    assert pq.read_schema(path).field("pearson").metadata == {
        b"doc": SCHEMA.field("pearson").metadata[b"doc"]
    }


CONTENT = sealed(rows(0.25, None, 0.5), "unit")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_a_changed_byte_anywhere_breaks_the_seal(position: int, change: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[position] ^= change
    with pytest.raises(BrokenSeal):
        opened(bytes(damaged), "unit", "similarity")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(CONTENT) - 1), st.binary(max_size=50))
def test_a_truncated_or_lengthened_file_breaks_the_seal(length: int, tail: bytes) -> None:
    for damaged in (CONTENT[:length] + tail, CONTENT + tail + b"\0"):
        if damaged != CONTENT:
            with pytest.raises(BrokenSeal):
                opened(damaged, "unit", "similarity")


def test_a_seal_inside_the_rows_does_not_confuse() -> None:
    mark = b"sweep.sha256\x18\x40".decode("latin-1") + "0" * 64
    table = rows(1, 2).set_column(0, SCHEMA.field("image_id"), pa.array([mark, mark]))
    assert opened(sealed(table, "unit"), "unit", "similarity").read().equals(table)


def test_damage_is_set_aside_named_and_counts_as_missing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    a, b = unit("a"), unit("b")
    store.write(a, rows(1, 2), SCHEMA)
    path = tmp_path / a.path
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(
        DamagedError,
        match=r"a\.[0-9a-f]{20}\.parquet does not match its checksum; it was set aside, run again",
    ):
        store.read([a])
    assert store.missing([a]) == [a]
    assert files(tmp_path) == [f"similarity/{DAMAGED}/{a.name}"]
    with pytest.raises(WorkError, match="no such file; run the study again"):
        store.read([b])


def test_every_kind_of_damage_is_told_apart(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    a, b = unit("a"), unit("b")
    store.write(a, rows(1, 2), SCHEMA)
    store.write(b, rows(1, 2), SCHEMA)
    good = (tmp_path / a.path).read_bytes()
    assert store.damage(a) is None
    for content, expected in (
        (b"", "is truncated, or no file that sweep wrote"),
        (good[:200] + bytes([good[200] ^ 1]) + good[201:], "does not match its checksum"),
        ((tmp_path / b.path).read_bytes(), f"holds the rows of {b.path}"),
        (sealed(rows(1, 2, 3), a.path), "has 3 rows where 2 were planned"),
        (sealed(rows(1, 2).drop_columns("model_b"), a.path), "has no column 'model_b'"),
    ):
        (tmp_path / a.path).write_bytes(content)
        assert expected in str(store.damage(a))


def test_damaged_weights_are_the_damage_of_their_model(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    model = unit("m", table="models", rows=1)
    digest = store.write_file("weights/m.npz", b"weights")
    row: dict[str, Any] = dict.fromkeys(SCHEMAS["models"].names, 0)
    row |= dict.fromkeys(("model_id", "model_key", "pretraining", "task", "mlflow_run_id"), "x")
    row |= {"weights_uri": "weights/m.npz", "weights_sha256": digest}
    store.write(model, pa.Table.from_pylist([row], schema=SCHEMAS["models"]), SCHEMAS["models"])
    assert store.damage(model) is None
    store.write_file("weights/m.npz", b"weight5")
    assert store.damage(model) == "names weights/m.npz, which does not match its checksum"
    store.files.delete("weights/m.npz")
    assert "weights/m.npz: no such file" in str(store.damage(model))


@pytest.mark.parametrize("table", sorted(SCHEMAS))
def test_a_schema_matches_itself_and_no_other(table: str) -> None:
    schema = SCHEMAS[table]
    assert mismatch(table, schema) is None
    assert f"has no column '{schema.names[-1]}'" in str(mismatch(table, schema.remove(len(schema) - 1)))
    changed = schema.set(0, schema.field(0).with_type(pa.int8()))
    assert f"'{schema.names[0]}' (int8 not null) where the table {table} declares" in str(
        mismatch(table, changed)
    )
    more = schema.append(pa.field("hair", pa.string()))
    if table in ("images", "models"):
        assert mismatch(table, with_extra(table, ["hair"])) is None
    else:
        assert mismatch(table, more) == f"has a column 'hair', which the table {table} does not declare"


def test_parts_that_other_units_of_the_same_label_hold_are_taken_over(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    old, new, other = (Unit("similarity", label, key_of(n), 4) for n, label in enumerate(("a", "a", "b")))
    store.write(old, rows(1, 2, 3, 4), SCHEMA, Parts("base", ("x",), ("0.1", "1")))
    store.write(other, rows(5, 6, 7, 8), SCHEMA, Parts("base", ("x",), ("0.1", "1")))
    store.write(Unit("similarity", "a", key_of("unmarked"), 2), rows(9, 10), SCHEMA)
    relatives = store.relatives([new])[new]
    assert old.path in relatives
    assert len(relatives) == 2
    found = store.stored_parts(new, Parts("base", ("y", "x"), ("1", "10")), relatives)
    assert {place: part["pearson"].to_pylist() for place, part in found.items()} == {(1, 0): [3, 4]}
    assert store.stored_parts(new, Parts("another base", ("x",), ("1",)), relatives) == {}
    (tmp_path / old.path).write_bytes(b"PAR1")
    assert (
        store.stored_parts(new, Parts("base", ("x",), ("1",)), [*relatives, "similarity/gone.parquet"]) == {}
    )


def test_units_set_aside_on_request_are_kept_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for _ in range(2):
        store.write(unit("a"), rows(1, 2), SCHEMA)
        store.set_aside([unit("a").path, unit("never stored").path], REPLACED)
    assert files(tmp_path) == [f"similarity/{REPLACED}/{unit('a').name}"]


def test_scratch_is_empty_and_gone_afterwards(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (tmp_path / ".tmp" / "tune").mkdir(parents=True)
    (tmp_path / ".tmp" / "tune" / "old").write_text("left by a run that was killed")
    with store.scratch("tune") as address:
        assert list(Path(address).iterdir()) == []
    assert files(tmp_path) == []


def test_temporary_files_of_dead_runs_are_cleared(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write(unit("a"), rows(1, 2), SCHEMA)
    (tmp_path / ".tmp" / "half").write_text("left by a run that was killed")
    store.files.clear_temporary()
    assert files(tmp_path) == [unit("a").path]
    store.files.clear_temporary()


def test_runs_that_overlap_harm_nothing(tmp_path: Path) -> None:
    """Four writers of the same units, a reader, and a run that clears temporary files in the midst of it."""
    store, units = Store(str(tmp_path)), [unit(f"u{index}") for index in range(12)]
    for each in units:
        store.write(each, rows(1, 2), SCHEMA)
    expected = (tmp_path / units[0].path).stat().st_size
    done = threading.Event()

    def write() -> None:
        for _ in range(5):
            for each in units:
                store.write(each, rows(1, 2), SCHEMA)

    def read() -> None:
        while not done.wait(0.01):
            assert store.read(units).num_rows == 2 * len(units)

    def clear() -> None:
        while not done.wait(0.5):
            store.files.clear_temporary()

    with ThreadPoolExecutor(6) as threads:
        reader, clearer = threads.submit(read), threads.submit(clear)
        writers = [threads.submit(write) for _ in range(4)]
        try:
            for writer in writers:
                writer.result()
        finally:
            done.set()
        for other in (reader, clearer):
            other.result()
    store.files.clear_temporary()
    assert files(tmp_path) == sorted(each.path for each in units)
    assert (tmp_path / units[0].path).stat().st_size == expected
