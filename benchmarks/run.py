"""All benchmarks in one run: figures into benchmarks/results.json, and into docs/benchmarks.md for people.

    make bench            (about half an hour; take the machine for yourself)

Each part runs in a process of its own. A part that is named leaves the other figures as they are:

    python -m benchmarks.run --only relevance masking
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, machine
from benchmarks.pages import page

RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"
PARTS: Mapping[str, tuple[str, ...]] = {
    "relevance": ("relevance.py", "--rounds", "3"),
    "resnet50": (
        "relevance.py",
        "--network",
        "resnet50",
        "--sizes",
        "224",
        "--readouts",
        "1",
        "10",
        "--rounds",
        "3",
    ),
    "masking": ("masking.py", "--images", "8"),
    "depths": ("depths.py",),
    "fills": ("fills.py",),
    "finetuning": ("finetuning.py", "--images", "64"),
    "study": ("study.py",),
    "queries": ("queries.py",),
    "type_one_error": ("type_one_error.py",),
}
"""Scripts and their arguments, by part."""


def headline(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The figures that the project is held to, each with the two sides it was made from."""
    figures: dict[str, float] = {}
    sides: dict[str, dict[str, float]] = {}

    def ratio(name: str, above: tuple[str, float], below: tuple[str, float]) -> None:
        figures[name] = above[1] / below[1]
        sides[name] = dict((above, below))

    if "relevance" in parts:
        rows = {
            row["what"]: row["seconds_per_map"] for row in parts["relevance"]["rows"] if row["size"] == 112
        }
        for m in (1, 10):
            engine = (f"engine_m{m}_seconds_per_map", rows[f"engine, M = {m}"])
            ratio(f"relevance_speedup_m{m}", ("innvestigate_seconds_per_map", rows["iNNvestigate"]), engine)
            ratio(f"passes_per_map_m{m}", engine, ("forward_pass_seconds", rows["forward pass"]))
    if "masking" in parts:
        own = parts["masking"]
        ratio(
            "masking_speedup",
            ("keras_predict_seconds", own["obvious_seconds"]),
            ("sweep_seconds", own["ours_seconds"]),
        )
    if "depths" in parts:
        own = parts["depths"]
        ratio(
            "heads_over_floor",
            ("masked_seconds", own["ours_seconds"]),
            ("floor_seconds", own["floor_seconds"]),
        )
    if "finetuning" in parts:
        own = parts["finetuning"]
        ratio(
            "finetune_speedup",
            ("keras_fit_seconds", own["keras_seconds"]),
            ("sweep_seconds", own["ours_seconds"]),
        )
    if "study" in parts:
        own = parts["study"]["vgg"]
        ratio(
            "study_over_floor", ("work_seconds", own["work_seconds"]), ("floor_seconds", own["floor_seconds"])
        )
    if "queries" in parts:
        own = next(study for study in parts["queries"]["studies"] if study["layout"] == "unit")
        slowest = max(own["queries"], key=lambda row: row["seconds"])
        figures["sql_100m_seconds"] = slowest["seconds"]
        sides["sql_100m_seconds"] = {
            "rows": own["rows"],
            "files": own["files"],
            "peak_bytes": slowest["peak_bytes"],
        }
    return {**figures, "sides": sides}


def main() -> None:
    """Run the parts, and write both files after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    parts: dict[str, Any] = known.get("parts", {})
    for name in options.only:
        script, *arguments = PARTS[name]
        print(f"==> {name}", flush=True)
        about = machine()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.json"
            command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments, "--json", str(out)]
            subprocess.run(command, cwd=ROOT, check=True)
            parts[name] = json.loads(out.read_text(encoding="utf-8")) | about
        found = headline(parts) | about | {"parts": parts}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page(found), encoding="utf-8")
    print(f"==> {RESULTS.relative_to(ROOT)} and {PAGE.relative_to(ROOT)} are written")


if __name__ == "__main__":
    main()
