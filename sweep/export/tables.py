"""The tables of an export: those that a study stores, and the answers that its tests rest on, as CSV and as Parquet."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from sweep.analysis.queries import QuerySession, opened, told
from sweep.analysis.sql import quoted
from sweep.plan import Plan
from sweep.stages import attributions, index_of_study
from sweep.storage.store import Store

STORED = ("images", "models", "epochs", "predictions", "relevance", "similarity", "masked")
"""Tables that are copied row by row."""
OF_ATTRIBUTIONS = ("attributions", "masked_attributions")
"""Those that only studies with several attributions have."""
OF_MAPS = ("relevance", "attributions")
"""Tables that are copied without their maps; those of `relevance` are arrays of their own."""
INITIALISATION = "same_init, same_task_same_pretraining"
"""The bins that the tests of initialisation compare, as the other tests name theirs."""


def stored(plan: Plan) -> list[str]:
    """The tables that an export copies: those of further attributions only where the study has them."""
    return [*STORED, *(OF_ATTRIBUTIONS if attributions.levels(plan) else ())]


def csv_path(table: str) -> str:
    """Where a table's CSV file is in an export: named as Psych-DS has it, where '_' parts a name's words."""
    return f"data/description-{table.replace('_', '')}_data.csv"


def parquet_path(table: str) -> str:
    """Where a table's Parquet file is in an export."""
    return f"parquet/{table}.parquet"


def write_tables(plan: Plan, store: Store, folder: Path) -> dict[str, pa.Schema]:
    """Write every table into `folder`, and return their columns by table.

    The stored tables are copied by DuckDB in pieces, so that they need not fit in memory.
    """
    for place in ("data", "parquet"):
        (folder / place).mkdir()
    index = index_of_study(plan)
    with told("sweep export"), opened(store.root, index=index) as session:
        for table in stored(plan):
            rows = f"SELECT * EXCLUDE (map) FROM {table}" if table in OF_MAPS else f"FROM {table}"
            for path, form in (
                (csv_path(table), "csv, HEADER"),
                (parquet_path(table), "parquet, COMPRESSION zstd"),
            ):
                session.execute(f"COPY ({rows}) TO {quoted(str(folder / path))} (FORMAT {form})")
    with closing(QuerySession(store.root, index=index)) as queries:
        for table, answer in _answers(plan, queries):
            pa.csv.write_csv(answer, folder / csv_path(table))
            pq.write_table(answer, folder / parquet_path(table), compression="zstd")
    return {path.stem: pq.read_schema(path) for path in sorted((folder / "parquet").iterdir())}


def _answers(plan: Plan, queries: QuerySession) -> Iterator[tuple[str, pa.Table]]:
    def of_every_fill(query: str) -> pa.Table:
        return pa.concat_tables([queries.run(query, {"fill": fill}) for fill in plan.study.masking.fills])

    ids = [plan.images.ids[position] for position in plan.selected]
    yield "mapped", pa.table({"position": pa.array(range(len(ids)), pa.int32()), "image_id": ids})
    yield "auc", of_every_fill("auc")
    yield "bins", of_every_fill("bins")
    yield "transfer", queries.run("transfer")
    initialisation = of_every_fill("anova_initialisation")
    source = of_every_fill("anova_source")
    tests = [
        _with(_with(initialisation, "sources", INITIALISATION), "test", "initialisation"),
        _with(_with(source, "effect", "mask_source"), "test", "source"),
    ]
    yield "tests", pa.concat_tables(tests, promote_options="permissive")


def _with(rows: pa.Table, column: str, value: str) -> pa.Table:
    """`rows` with a further column that has one value."""
    return rows.append_column(column, pa.array([value] * len(rows), pa.string()))
