"""A study gives the same answers whether `masked` has a row per image or counts per cell."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from sweep.analysis.queries import list_queries, run_query
from sweep.storage.schemas import MASKED_CELLS
from tests.queries.simulated import Study, factorial, studies, write

BY_IMAGE = ("attributions", "error_consistency", "logit_curves", "transfer")
"""Queries that look at single images; their own tests say what counts leave of the answer."""
READERS = [
    query.name
    for query in list_queries()
    if "masked" in query.reads and query.name not in {*BY_IMAGE, "human_transfer"}
]


def write_both(study: Study, folder: Path) -> tuple[Path, Path]:
    """The same study twice: with a row per image, and with counts."""
    images, cells = folder / "images", folder / "cells"
    write(study, images)
    write(dataclasses.replace(study, granularity="cell"), cells)
    return images, cells


def assert_same(got: pa.Table, expected: pa.Table) -> None:
    """Equal, up to the order in which floating-point numbers were added."""
    assert got.schema == expected.schema
    for name in expected.column_names:
        if pa.types.is_floating(expected.schema.field(name).type):
            ours, theirs = (table[name].to_pandas() for table in (got, expected))
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=name)
        else:
            assert got[name].to_pylist() == expected[name].to_pylist(), name


@pytest.mark.parametrize("name", READERS)
def test_every_query_gives_the_same_answer(name: str, tmp_path: Path) -> None:
    images, cells = write_both(Study(factorial(), n_random=2, controls={"reversed": 1}), tmp_path)
    assert pq.read_schema(cells / "masked" / "part-0.parquet").equals(MASKED_CELLS, check_metadata=False)
    by_image, by_cell = (pq.read_table(folder / "masked").num_rows for folder in (images, cells))
    assert by_cell == by_image / 12 * 3
    answer = run_query(name, str(images))
    assert answer.num_rows
    assert_same(run_query(name, str(cells)), answer)


@settings(deadline=None, max_examples=5)
@given(studies())
def test_in_any_study(tmp_path_factory: pytest.TempPathFactory, study: Study) -> None:
    images, cells = write_both(study, tmp_path_factory.mktemp("study"))
    for name in ("auc", "anova_initialisation", "pairwise"):
        assert_same(run_query(name, str(cells)), run_query(name, str(images)))


def test_a_lost_chunk_makes_a_pair_incomplete(tmp_path: Path) -> None:
    study = Study(factorial(1, 1, 2), granularity="cell")
    write(study, tmp_path)
    path = tmp_path / "masked" / "part-1.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    pairs = run_query("auc", str(tmp_path)).to_pandas()
    assert pairs["n_images"].max() == study.n_images
    assert (~pairs["complete"]).sum() == 1
    assert pairs.loc[~pairs["complete"], "n_images"].iloc[0] < study.n_images


def test_rows_of_the_other_kind_that_the_index_does_not_name_are_not_read(tmp_path: Path) -> None:
    images, cells = write_both(Study(factorial(1, 1, 2)), tmp_path)
    expected = [run_query("auc", str(root)) for root in (images, cells)]
    shutil.copy(images / "masked" / "part-0.parquet", cells / "masked" / "z.parquet")
    shutil.copy(cells / "masked" / "part-0.parquet", images / "masked" / "z.parquet")
    for root, before in zip((images, cells), expected, strict=True):
        assert run_query("auc", str(root)).equals(before)


def test_an_empty_table_has_no_pairs(tmp_path: Path) -> None:
    write(Study(factorial(1, 1, 2), granularity="cell"), tmp_path)
    for path in (tmp_path / "masked").iterdir():
        pq.write_table(pa.table([[]] * len(MASKED_CELLS), schema=MASKED_CELLS), path)
    assert run_query("auc", str(tmp_path)).num_rows == 0
