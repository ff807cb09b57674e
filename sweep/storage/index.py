"""The index of a study: the files that its tables consist of, and the settings that its queries start from.

A table's folder may hold more than the study as it stands asks for: units of seeds that were cut, of settings that were
changed. Every reader, the DuckDB shell included, reads the files that the index names and no others.
"""

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

INDEX = "index.parquet"
"""The index, relative to the study's results."""


def index_of(paths: Iterable[str], settings: Mapping[str, int | str]) -> bytes:
    """An index as a Parquet file: a row per file with its table and path, and the settings as key-value metadata."""
    files = sorted(set(paths))
    rows = pa.table(
        {
            "table_name": pa.array([path.split("/")[0] for path in files], pa.string()),
            "file": pa.array(files, pa.string()),
        }
    )
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, rows.schema, compression="zstd") as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({f"sweep.{name}": str(value) for name, value in settings.items()})
    return bytes(sink.getvalue().to_pybytes())
