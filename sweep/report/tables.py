"""Query results as text for people and as files for programs."""

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
    """Write `rows` to a binary stream as 'csv', 'json' (a list of objects) or 'parquet'."""
    if form == "csv":
        pa.csv.write_csv(rows, stream)
    elif form == "parquet":
        pa.parquet.write_table(rows, stream)
    else:
        stream.write(rows.to_pandas().to_json(orient="records", double_precision=15).encode() + b"\n")


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
