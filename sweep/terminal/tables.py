"""Query results as text for people and as files for programs."""

import json
import math
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.console import Console
from rich.table import Table


def print_table(rows: pa.Table, title: str | None = None) -> None:
    """Print `rows` with numbers to the right, four significant digits; a wide table runs on past the screen."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for field in rows.schema:
        number = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        table.add_column(field.name, justify="right" if number else "left", no_wrap=True)
    for row in rows.to_pylist():
        table.add_row(*(_shown(value) for value in row.values()))
    Console(width=10_000).print(table, crop=False, soft_wrap=True)


def write_table(rows: pa.Table, form: str, stream: IO[bytes]) -> None:
    """Write `rows` to a binary stream as 'csv', 'json' (a list of objects) or 'parquet'.

    Numbers keep all their digits; JSON has no word for NaN or infinity, which become null.
    """
    if form == "csv":
        pa.csv.write_csv(rows, stream)
    elif form == "parquet":
        pa.parquet.write_table(rows, stream)
    else:
        objects = [{name: _in_json(value) for name, value in row.items()} for row in rows.to_pylist()]
        stream.write(json.dumps(objects, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _in_json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
