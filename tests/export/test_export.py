"""`sweep export`: every table twice, every column told, masks as the study made them, and all of it or nothing."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

import sweep
from sweep.analysis.queries import run_query
from sweep.export import folder as exports
from sweep.export.dictionary import COLUMNS
from sweep.export.tables import STORED, csv_path, parquet_path
from sweep.plan import make_plan
from sweep.stages import columns_of, index_of_study, rows_of_tables
from sweep.storage.store import Store
from tests import studies
from tests.in_process import missing_pieces
from tests.report.simulated import simulate


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> sweep.Result:
    """A finished study whose results lie in a folder with a quote in its name."""
    place = tmp_path_factory.mktemp("it's exported")
    study = studies.write_small_study(place).changed(masking={"fills": ["mean", "linear"]})
    plan = make_plan(study.path)
    simulate(plan, Store(str(place / "results" / "small")))
    return sweep.Result.open(study.path, place / "results")


@pytest.fixture(scope="module")
def exported(result: sweep.Result) -> Path:
    folder = result.plan.path.parent / "export"
    assert result.export(folder) == ()
    return folder


def read_csv(path: Path, schema: pa.Schema) -> pa.Table:
    # Text and its absence look alike in a CSV file.
    options = pa.csv.ConvertOptions(column_types=schema, strings_can_be_null=False)
    return pa.csv.read_csv(path, convert_options=options)


def test_tables_are_those_of_the_study_in_both_forms(exported: Path, result: sweep.Result) -> None:
    rows = rows_of_tables(result.plan)
    for table in (*STORED, *COLUMNS):
        parquet = pq.read_table(exported / parquet_path(table))
        text = read_csv(exported / csv_path(table), parquet.schema)
        assert text.column_names == parquet.column_names
        for name in parquet.column_names:
            column = parquet[name]
            if pa.types.is_string(column.type):
                column = pc.fill_null(column, "")
            assert text[name].equals(column), (table, name)
        if table in STORED:
            names = [name for name in columns_of(result.plan, table).names if name != "map"]
            assert parquet.column_names == names
            assert parquet.num_rows == rows[table]
    bins = pq.read_table(exported / parquet_path("bins"))
    expected = [
        run_query("bins", result.store.root, {"fill": fill}, index=index_of_study(result.plan))
        for fill in ("linear", "mean")
    ]
    # Threads add up in any order, so the last digits differ.
    pd.testing.assert_frame_equal(bins.to_pandas(), pa.concat_tables(expected).to_pandas(), rtol=1e-12)


def test_every_column_is_described_as_psych_ds_asks(exported: Path) -> None:
    told = json.loads((exported / "dataset_description.json").read_text())
    assert told["@context"] == "https://schema.org/"
    assert told["@type"] == "Dataset"
    assert told["name"] == "small"
    assert told["description"]
    variables = {one["name"]: one["description"] for one in told["variableMeasured"]}
    assert len(variables) == len(told["variableMeasured"])
    assert all(variables.values())
    found = set()
    for path in (exported / "data").iterdir():
        assert re.fullmatch(r"([a-z]+-[a-zA-Z0-9]+)(_[a-z]+-[a-zA-Z0-9]+)*_data\.csv", path.name)
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        found |= set(header)
        assert {len(row) for row in rows} == {len(header)}
    assert found == set(variables)
    # One name, two meanings: both are told, with their tables.
    assert "in epochs: mean cross-entropy" in variables["loss"]
    assert "in transfer: specific loss" in variables["loss"]
    assert variables["hair"] == "label or factor level named by the study"


def test_maps_and_masks_are_those_of_the_study(exported: Path, result: sweep.Result) -> None:
    mapped = pq.read_table(exported / parquet_path("mapped"))
    assert mapped["image_id"].to_pylist() == result.image_ids
    for model in result.models:
        maps = np.load(exported / "maps" / f"{model}.npy", allow_pickle=False)
        np.testing.assert_array_equal(maps, result.maps(model))
        ranks = np.load(exported / "masks" / f"{model}.npy", allow_pickle=False)
        assert ranks.shape == maps.shape
        # The pixels of the largest absolute relevance go first, one after the other.
        for one, order in zip(maps, ranks, strict=True):
            assert sorted(order.ravel()) == list(range(order.size))
            assert (np.diff(np.abs(one).ravel()[np.argsort(order.ravel())]) <= 0).all()
        for kind in ("maps", "masks"):
            with Image.open(exported / kind / f"{model}.png") as picture:
                assert picture.size == (6 * 32 + 5, 32)


def test_masks_are_ranked_as_the_masking_stage_ranks_them(tmp_path: Path) -> None:
    study = studies.write_small_study(tmp_path).changed(masking={"regions": 4})
    plan = make_plan(study.path)
    store = Store(str(tmp_path / "results" / "small"))
    simulate(plan, store)
    sweep.Result(plan, store).export(tmp_path / "out")
    ranks = np.load(tmp_path / "out" / "masks" / "first-identity-s1.npy")
    (tmp_path / "results" / "small" / "masked").rename(tmp_path / "gone")
    pieces = [p for p in missing_pieces(plan, store, "masking") if p.mask.source == "first-identity-s1"]  # type: ignore[attr-defined]
    own = next(piece for piece in pieces if piece.mask.control == "none")  # type: ignore[attr-defined]
    np.testing.assert_array_equal(own.ranks, ranks.reshape(len(ranks), -1))  # type: ignore[attr-defined]


def test_a_mask_picture_shows_the_levels(exported: Path, result: sweep.Result) -> None:
    model = result.models[0]
    ranks = np.load(exported / "masks" / f"{model}.npy")[0]
    with Image.open(exported / "masks" / f"{model}.png") as picture:
        greys = np.asarray(picture)[:32, :32, 0]
    # Of 1024 pixels 1, 10 and 31.6 percent are 10, 102 and 324; 0 and 100 percent show nothing.
    assert [
        np.unique(greys[(low <= ranks) & (ranks < high)]).tolist()
        for low, high in ((0, 10), (10, 102), (102, 324), (324, 1024))
    ] == [[0], [85], [170], [255]]


def test_a_folder_that_is_there_and_one_that_cannot_be_are_refused(
    exported: Path, result: sweep.Result, tmp_path: Path
) -> None:
    before = sorted(path.name for path in exported.parent.iterdir())
    with pytest.raises(sweep.InputError, match="is there already; name a folder that is not"):
        result.export(exported)
    with pytest.raises(sweep.InputError, match="there is no folder"):
        result.export(tmp_path / "none" / "out")
    assert sorted(path.name for path in exported.parent.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_leaves_nothing(
    result: sweep.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "masks")

    monkeypatch.setattr(exports, "write_pictures", full)
    with pytest.raises(OSError, match="No space left"):
        result.export(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_study_says_what_is_missing(tmp_path: Path) -> None:
    study = studies.write_small_study(tmp_path)
    plan = make_plan(study.path)
    store = Store(str(tmp_path / "results" / "small"))
    simulate(plan, store)
    (relevance,) = (tmp_path / "results" / "small" / "relevance").glob("first-gender-s2.*")
    relevance.unlink()
    for masked in (tmp_path / "results" / "small" / "masked").glob("*first-gender-s2*"):
        masked.unlink()
    done = studies.sweep("export", study.path, tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "missing: Maps are missing of first-gender-s2" in done.stderr
    assert "Maps are missing of first-gender-s2" in (tmp_path / "out" / "README.md").read_text()
    assert not (tmp_path / "out" / "maps" / "first-gender-s2.npy").exists()
    assert (tmp_path / "out" / "maps" / "first-gender-s1.npy").exists()
    assert done.stdout.startswith(f"Export   {tmp_path / 'out'}  (")
