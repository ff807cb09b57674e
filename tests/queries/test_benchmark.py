"""The benchmark of the queries: the study it simulates, and that its figures come from real answers."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.analysis.queries import run_query

PATH = Path(__file__).parents[2] / "benchmarks" / "queries.py"
SCRIPT = runpy.run_path(str(PATH))
QUERIES, Size, simulate, size_for = (SCRIPT[name] for name in ("QUERIES", "Size", "simulate", "size_for"))


@pytest.mark.parametrize("rows", [1, 10_000, 3_456_789, 100_000_000, 1_000_000_000])
def test_a_study_has_the_rows_asked_for_and_few_more(rows: int) -> None:
    size = size_for(rows)
    assert size.rows >= rows
    assert Size(size.seeds, size.images - 1).rows < rows or size.images == 1
    assert size.images <= 320
    assert size_for(100_000_000).models == 200


@pytest.mark.parametrize("layout", ["unit", "source"])
def test_the_simulated_study_is_whole(layout: str, tmp_path: Path) -> None:
    size = Size(2, 5)
    written = simulate(tmp_path, size, layout)
    files = list((tmp_path / "masked").iterdir())
    assert len(files) == (size.pairs if layout == "unit" else size.models + 1)
    assert written == sum(path.stat().st_size for path in files)
    pairs = run_query("auc", str(tmp_path)).to_pandas()
    assert len(pairs) == size.pairs == 9 * 8
    assert pairs["complete"].all()
    assert (pairs["n_images"] == 5).all()
    assert run_query("anova_source", str(tmp_path)).to_pandas()["f"].notna().all()


def test_every_query_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, PATH, "--rows", "2000", "--layout", "source", "--json", target],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert all(name in done.stdout for name in QUERIES)
    (study,) = json.loads(target.read_text())["studies"]
    assert (study["models"], study["pairs"], study["files"]) == (8, 72, 9)
    assert study["rows"] >= 2000
    assert [row["query"] for row in study["queries"]] == list(QUERIES)
    for row in study["queries"]:
        assert 0 < row["seconds"] < 60
        assert 50e6 < row["peak_bytes"] < 4e9
        assert row["answer_rows"] > 0
