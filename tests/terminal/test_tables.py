"""Query results as text and files."""

import io
import json

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from sweep.terminal.tables import print_table, write_table

ROWS = pa.table({"name": ["a", "b"], "value": [0.123456789012345, None], "n": [1, 2]})


def test_numbers_are_shortened_and_missing_ones_are_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(ROWS, "Title")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["Title", "name   value  n", "a     0.1235  1", "b          -  2"]


def test_a_wide_table_keeps_one_line_per_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(pa.table({f"column{i}": ["x" * 20] for i in range(40)}))
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_files_hold_the_same_rows(form: str) -> None:
    stream = io.BytesIO()
    write_table(ROWS, form, stream)
    stream.seek(0)
    if form == "json":
        assert json.loads(stream.getvalue()) == ROWS.to_pylist()
    else:
        read = pa.csv.read_csv(stream) if form == "csv" else pa.parquet.read_table(stream)
        assert read.to_pylist() == ROWS.to_pylist()


def test_json_keeps_every_digit_and_every_type() -> None:
    rows = pa.table(
        {
            "p": [1.2345678901234567e-14, 2.8e-300, 0.1 + 0.2, None],
            "n": pa.array([1, None, 2**53 + 1, 4], pa.int64()),
            "f": [float("nan"), float("inf"), 1.0, None],
            "name": ['"quoted"', "é", None, "a/b"],
            "tied": [True, False, None, True],
        }
    )
    stream = io.BytesIO()
    write_table(rows, "json", stream)
    assert (
        json.loads(stream.getvalue())
        == rows.set_column(2, "f", pa.array([None, None, 1.0, None])).to_pylist()
    )
    assert "é" in stream.getvalue().decode()
