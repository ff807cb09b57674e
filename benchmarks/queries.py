"""How long the queries take on a large study, and how much memory they need.

    python benchmarks/queries.py [--rows 100000000] [--json results.json]

A study of 200 models (2 pretrainings x 2 tasks x 50 seeds) and one random mask is simulated: 201 sources x 200
destinations x 8 levels x about 311 images make 100 million rows of `masked`, one per image. DuckDB writes them as Parquet
into a temporary folder, in one file per source and destination, as a study leaves them (--layout unit), or in one
file per source (--layout source). Fewer --rows make fewer seeds. Each query then runs in a process of its own, with
two threads and DuckDB's memory limited to 4 GB: "seconds" is the query alone, from the first file opened to the
answer; "peak" is the whole process's resident memory, Python and the shared libraries included.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from sweep.analysis.queries import list_queries, run_query
from sweep.storage.index import INDEX, index_of

QUERIES = ("auc", "bins", "accuracy_curves", "anova_initialisation", "anova_source", "pairwise")
PERCENTS = (0.0, 0.1, 0.316, 1.0, 3.16, 10.0, 31.6, 100.0)
IMAGES = 320
"""Images with maps, of which the rows asked for may leave a few out."""
CELLS = 4
"""2 pretrainings x 2 tasks."""


@dataclass(frozen=True)
class Size:
    """A simulated study: how many models, and what is evaluated for each pair."""

    seeds: int
    """Models per pretraining and task."""
    images: int
    """Images per source, destination and level."""

    @property
    def models(self) -> int:
        """Number of models, each source and destination."""
        return CELLS * self.seeds

    @property
    def pairs(self) -> int:
        """Number of sources, the random one included, times destinations."""
        return (self.models + 1) * self.models

    @property
    def rows(self) -> int:
        """Rows of `masked`."""
        return self.pairs * len(PERCENTS) * self.images


def size_for(rows: int) -> Size:
    """The study of about IMAGES images that has at least `rows` rows; never fewer than two seeds."""
    seeds = max(2, math.ceil(math.sqrt(rows / len(PERCENTS) / IMAGES) / CELLS))
    cells = Size(seeds, 1).rows
    return Size(seeds, max(1, math.ceil(rows / cells)))


def simulate(folder: Path, size: Size, layout: str) -> int:
    """Write the tables `models` and `masked` with DuckDB; returns the bytes of `masked`."""
    for table in ("models", "masked"):
        (folder / table).mkdir()
    with duckdb.connect() as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(
            """
            CREATE TABLE models AS
            SELECT
                concat_ws('-', pretraining, task, 's' || seed) AS model_id, 'key' AS model_key, pretraining, task,
                seed::BIGINT AS seed, if(task = 'gender', 2, 101)::INTEGER AS n_classes, 25::INTEGER AS epochs,
                1.0::DOUBLE AS train_accuracy, 1.0::DOUBLE AS val_accuracy, '' AS weights_uri,
                '' AS weights_sha256, NULL::VARCHAR AS mlflow_run_id
            FROM (VALUES ('objects'), ('faces')) AS p (pretraining), (VALUES ('identity'), ('gender')) AS t (task),
                range(1, ? + 1) AS s (seed)
            """,
            [size.seeds],
        )
        connection.execute(f"COPY models TO '{folder / 'models' / 'all.parquet'}'")
        models = [row[0] for row in connection.execute("SELECT model_id FROM models ORDER BY 1").fetchall()]
        for source in [*models, "random-1"]:
            connection.execute(
                """
                CREATE OR REPLACE TEMP TABLE rows AS
                SELECT
                    ? AS source_id,
                    ? AS control,
                    1::INTEGER AS draw,
                    'linear' AS fill,
                    model_id AS destination_id,
                    percent,
                    'image-' || image AS image_id,
                    'class-' || (random() * n_classes)::INTEGER AS predicted_class,
                    -- Harder with more pixels gone, and each pair a little different.
                    random() < 1 / (1 + exp(log10(percent + 0.1) - hash(model_id, ?) % 100 / 100)) AS correct,
                    (20 * random() - 5)::FLOAT AS target_logit
                FROM models, unnest(?::DOUBLE[]) AS levels (percent), range(?) AS images (image)
                """,
                [
                    source,
                    "scattered" if source == "random-1" else "none",
                    source,
                    list(PERCENTS),
                    size.images,
                ],
            )
            if layout == "source":
                target = folder / "masked" / f"{source}.parquet"
                connection.execute(f"COPY rows TO '{target}' (COMPRESSION zstd)")
                continue
            # DuckDB splits by destination into folders; a study's table is one flat folder.
            parts = folder / "parts"
            connection.execute(
                f"COPY rows TO '{parts}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY destination_id,"
                " WRITE_PARTITION_COLUMNS)"
            )
            for part in parts.glob("*/*.parquet"):
                destination = part.parent.name.partition("=")[2]
                part.rename(folder / "masked" / f"{source}--{destination}.{part.name}")
            shutil.rmtree(parts)
    files = [path.relative_to(folder).as_posix() for path in folder.glob("*/*.parquet")]
    (folder / INDEX).write_bytes(index_of(files, {}))
    return sum(path.stat().st_size for path in (folder / "masked").iterdir())


def ask(name: str, folder: Path, memory: str, threads: int) -> dict[str, Any]:
    """Run one query in this process, within the limits: seconds, peak bytes of the process, rows of the answer."""
    with duckdb.connect(
        config={"memory_limit": memory, "threads": threads, "temp_directory": str(folder / "spilled")}
    ) as connection:
        start = time.perf_counter()
        answer = run_query(name, str(folder), connection=connection)
        seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {"query": name, "seconds": seconds, "peak_bytes": 1024 * peak, "answer_rows": answer.num_rows}


def measure(
    rows: int, layout: str, queries: Sequence[str] = QUERIES, memory: str = "4GB", threads: int = 2
) -> dict[str, Any]:
    """Simulate a study of at least `rows` rows and run each query on it, one process at a time.

    Returns:
        What was simulated (models, pairs, rows, files, bytes) and, under `queries`, one row per query with query,
        seconds, peak_bytes and answer_rows.

    Raises:
        subprocess.CalledProcessError: when a query fails, its message on standard error.
    """
    size = size_for(rows)
    with tempfile.TemporaryDirectory(prefix="sweep-queries-") as temporary:
        folder = Path(temporary)
        written = simulate(folder, size, layout)
        answers = []
        for name in queries:
            command = [sys.executable, __file__, "--ask", name, "--folder", temporary]
            limits = ["--memory", memory, "--threads", str(threads)]
            done = subprocess.run([*command, *limits], stdout=subprocess.PIPE, text=True, check=True)
            answers.append(json.loads(done.stdout))
        return {
            "layout": layout,
            "models": size.models,
            "pairs": size.pairs,
            "rows": size.rows,
            "files": len(list((folder / "masked").iterdir())),
            "bytes": written,
            "memory_limit": memory,
            "threads": threads,
            "queries": answers,
        }


def main() -> None:
    """Measure, print a table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [query.name for query in list_queries() if "masked" in query.reads]
    parser.add_argument("--rows", type=int, default=100_000_000, help="rows of `masked`, at least")
    parser.add_argument(
        "--layout",
        choices=("unit", "source"),
        nargs="+",
        default=["unit", "source"],
        help="files of `masked`",
    )
    parser.add_argument("--queries", choices=names, nargs="+", default=list(QUERIES))
    parser.add_argument("--memory", default="4GB", help="DuckDB's memory_limit")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--ask", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        print(json.dumps(ask(options.ask, options.folder, options.memory, options.threads)))
        return
    # Not above: the processes that are measured should hold nothing that they do not need.
    from benchmarks.common import machine

    here = machine() | {"duckdb": duckdb.__version__}
    print(json.dumps(here))
    studies = []
    for layout in options.layout:
        study = measure(options.rows, layout, options.queries, options.memory, options.threads)
        studies.append(study)
        print(
            f"\n{study['rows']:,} rows of masked, {study['models']} models, {study['files']:,} files,"
            f" {study['bytes'] / 1e9:.2f} GB; {study['threads']} threads, limit {study['memory_limit']}"
        )
        print(f"  {'query':<22}{'seconds':>9}{'peak MB':>9}{'rows':>9}")
        for row in study["queries"]:
            print(
                f"  {row['query']:<22}{row['seconds']:>9.1f}{row['peak_bytes'] / 1e6:>9.0f}{row['answer_rows']:>9}"
            )
    if options.json:
        options.json.write_text(json.dumps(here | {"studies": studies}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
