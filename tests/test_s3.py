"""The store, the lease and the queries on an S3-compatible server, as on a local folder."""

import pickle
import queue
import time
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from sweep.analysis.queries import run_query
from sweep.errors import DamagedError, InputError, StoreError
from sweep.runs.holder import Tempo, read_holder
from sweep.runs.lease import HeldError, Lease, ask
from sweep.storage.files import Files
from sweep.storage.store import DAMAGED, Store
from tests.queries.simulated import Study, factorial, write
from tests.storage.test_store import SCHEMA, rows, unit


def test_units_are_written_found_and_read(bucket: str) -> None:
    store = Store(f"{bucket}/results/study")
    a, b = unit("a"), unit("b")
    assert store.missing([a, b]) == [a, b]
    store.write(a, rows(1, None), SCHEMA)
    store.write(b, rows(3, 4), SCHEMA)
    assert store.missing([a, b]) == []
    in_a_worker: Store = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own, as Ray sends it
    assert in_a_worker.read([b, a])["pearson"].to_pylist() == [3, 4, 1, None]
    assert store.others("similarity", [a]) == [b.path]


def test_damage_is_set_aside(bucket: str) -> None:
    store = Store(f"{bucket}/study")
    store.write(unit("a"), rows(1, 2), SCHEMA)
    content = bytearray(store.read_file(unit("a").path))
    content[100] ^= 1
    store.write_file(unit("a").path, bytes(content))
    assert store.damage(unit("a")) == "does not match its checksum"
    with pytest.raises(DamagedError, match="set aside"):
        store.read([unit("a")])
    assert store.missing([unit("a")]) == [unit("a")]
    assert store.files.names(f"similarity/{DAMAGED}") == [unit("a").name]


def test_large_files_go_up_in_parts_and_come_back(bucket: str) -> None:
    store = Store(f"{bucket}/study")
    content = bytes(range(256)) * 80_000
    store.write_file("weights/large.npz", content)
    assert store.read_file("weights/large.npz") == content


def test_scratch_goes_and_temporary_files_too(bucket: str) -> None:
    store = Store(f"{bucket}/study")
    store.write(unit("a"), rows(1, 2), SCHEMA)
    with store.scratch("tune") as address:
        assert address == f"{bucket}/study/.tmp/tune"
        store.write_file(".tmp/tune/state", b"1")
    assert store.files.names(".tmp/tune") == []
    store.write_file(".tmp/left", b"1")
    store.files.clear_temporary()
    assert store.files.names(".tmp") == []
    assert store.missing([unit("a")]) == []


def test_one_run_holds_the_lease_and_hears_requests(bucket: str) -> None:
    files, events, tempo = Files(f"{bucket}/study"), queue.Queue[Any](), Tempo(0.3, 3, 0.5)

    def lease() -> Lease:
        return Lease(files, "study.yaml", events.put, events.put, events.put, tempo)

    with lease():
        with pytest.raises(HeldError), lease():
            pass
        holder = read_holder(files)
        assert holder is not None
        ask(files, holder, "stop")
        assert events.get(timeout=20) == "stop"
    assert read_holder(files) is None


def test_queries_answer_as_on_a_local_folder(bucket: str, tmp_path: Path) -> None:
    write(Study(factorial(2, 2, 2)), tmp_path)
    remote = Files(f"{bucket}/results/study")
    with pytest.raises(InputError, match="s3://bucket/results/study holds no results with an index"):
        run_query("auc", remote.root)
    for path in tmp_path.rglob("*.parquet"):
        remote.write(str(path.relative_to(tmp_path)), path.read_bytes())
    for name in ("auc", "bins", "anova_initialisation", "accuracy_curves"):
        # Sums over files that arrive in another order differ in their last bits.
        there, here = (run_query(name, root).to_pandas() for root in (remote.root, str(tmp_path)))
        pd.testing.assert_frame_equal(there, here, rtol=1e-9)
    with duckdb.connect() as connection:
        for _ in range(2):
            assert run_query("auc", remote.root, connection=connection).num_rows > 0


def test_studies_are_found_under_a_results_root(bucket: str) -> None:
    results = Files(f"{bucket}/results")
    assert results.folders_with("study.yaml") == []
    results.write("second/study.yaml", b"")
    results.write("first/study.yaml", b"")
    results.write("no-study/notes.txt", b"")
    assert results.folders_with("study.yaml") == ["first", "second"]


def test_what_no_waiting_cures_is_said_at_once(bucket: str) -> None:
    begun = time.monotonic()
    with pytest.raises(StoreError, match="NO_SUCH_BUCKET"):
        Store("s3://no-such-bucket/study").write_file("study.yaml", b"")
    assert time.monotonic() - begun < 20
    with pytest.raises(
        InputError, match="an address takes no '\\?'; name an S3-compatible server by AWS_ENDPOINT_URL"
    ):
        Store(f"{bucket}/study?endpoint_override=localhost")
    with pytest.raises(InputError, match="not a usable address"):
        Store("s4://bucket/study")
