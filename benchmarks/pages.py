"""The figures of benchmarks/results.json as docs/benchmarks.md."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweep.stages import STAGES

AIMS: Mapping[str, tuple[str, str]] = {
    "relevance_speedup_m1": ("map, one model on a backbone: iNNvestigate's time / ours", "at least 2"),
    "relevance_speedup_m10": ("map, ten models on a backbone: iNNvestigate's time / ours", "at least 5"),
    "passes_per_map_m1": ("the same in forward passes, one model", "at most 3.3"),
    "passes_per_map_m10": ("the same, ten models", "at most 1.35"),
    "masking_speedup": (
        "masking, 20 models: Keras predict per source, destination, level / ours",
        "at least 8",
    ),
    "heads_over_floor": (
        "masking with ten deep heads: time / unmasked passes of trunk and heads",
        "at most 1.15",
    ),
    "finetune_speedup": (
        "finetuning, 10 models: Keras fit through the frozen backbone / ours",
        "at least 20",
    ),
    "study_over_floor": ("whole VGG-16 study: time / its necessary backbone passes", "at most 1.25"),
    "sql_100m_seconds": ("slowest of the AUC and ANOVA queries over 100 million rows, seconds", "seconds"),
}
"""What each headline figure is, and what it is held to."""


def page(found: Mapping[str, Any]) -> str:
    """The whole document."""
    parts = found["parts"]
    sections = [
        _INTRODUCTION,
        _table(
            ("figure", "what", "measured", "aim"),
            (
                [f"`{name}`", what, _number(found[name]), aim]
                for name, (what, aim) in AIMS.items()
                if name in found
            ),
        ),
    ]
    for name, section in _SECTIONS.items():
        if name in parts:
            about = parts[name]
            sections.append(
                f"{section(about)}\n\n*{about['machine']}; commit {about['commit']}, {about['date']}; "
                f"load before it began {about['load']}; VGG-16 weights: {about['weights']}.*"
            )
    return "\n\n".join(sections) + "\n"


_INTRODUCTION = """# Benchmarks

Written by `make bench`; do not edit. Every ratio has both of its sides from one run, in turns, on the machine named below
each table. `benchmarks/results.json` holds all figures, and under `sides` what each ratio was made from."""


def _relevance(part: Mapping[str, Any]) -> str:
    return (
        "## Relevance\n\n`benchmarks/relevance.py`: VGG-16, preset_a_flat, 8 images per call; M readouts share a backbone. "
        "Peak is the whole process, weights and TensorFlow included.\n\n" + _maps(part)
    )


def _resnet50(part: Mapping[str, Any]) -> str:
    return (
        "## Relevance of a residual network\n\n`benchmarks/relevance.py --network resnet50`: ResNet-50 with random weights, "
        "its batch normalisations folded, preset_a_flat with sums by z, as iNNvestigate has them.\n\n"
        + _maps(part)
    )


def _maps(part: Mapping[str, Any]) -> str:
    # Figures of an environment without zennit say nothing of it.
    peers = [name for name in ("innvestigate", "zennit") if part["rows"][0].get(f"times_{name}")]
    named = {"innvestigate": "x iNNvestigate", "zennit": "x zennit"}
    rows = (
        [
            f"{row['size']} px",
            row["what"],
            f"{1e3 * row['seconds_per_map']:.1f}",
            f"{row['forwards_per_map']:.2f}",
            *(f"{row[f'times_{name}']:.2f}" for name in peers),
            f"{row['peak_bytes'] / 1e9:.1f}",
        ]
        for row in part["rows"]
    )
    columns = (
        "size",
        "what",
        "ms per map",
        "forward passes per map",
        *(named[name] for name in peers),
        "peak GB",
    )
    return _table(columns, rows) + "".join(
        f"\n\nzennit and the rows `engine as zennit` explain by epsilon_plus_flat; at {row['size']} px their maps differ by at "
        f"most {row['difference_from_zennit']:.0e} of the maximum."
        for row in part["rows"]
        if row.get("difference_from_zennit") is not None
    )


def _masking(part: Mapping[str, Any]) -> str:
    return (
        "## Masking\n\n`benchmarks/masking.py`: the masks of one source at six levels on "
        f"{part['images']} images, seen by {part['destinations']} models on two VGG-16 backbones at {part['size']} px.\n\n"
        + _table(
            (
                "Keras predict, s",
                "sweep, s",
                "ratio",
                "predicted classes that agree",
                "sweep / its backbone passes",
            ),
            [
                [
                    f"{part['obvious_seconds']:.1f}",
                    f"{part['ours_seconds']:.2f}",
                    f"{part['speedup']:.1f}",
                    f"{part['predictions_that_agree']:.2%}",
                    f"{part['over_floor']:.2f}",
                ]
            ],
        )
    )


def _depths(part: Mapping[str, Any]) -> str:
    return (
        "## Deeper heads\n\n`benchmarks/depths.py`: VGG-16 trained again from block5_conv1 on, "
        f"{part['heads']} heads at {part['size']} px; the masks of one source at six levels on {part['images']} images.\n\n"
        + _table(
            (
                "Keras predict, s",
                "sweep, s",
                "ratio",
                "predicted classes that agree",
                "sweep / unmasked passes of trunk and heads",
            ),
            [
                [
                    f"{part['obvious_seconds']:.1f}",
                    f"{part['ours_seconds']:.2f}",
                    f"{part['speedup']:.1f}",
                    f"{part['predictions_that_agree']:.2%}",
                    f"{part['over_floor']:.2f}",
                ]
            ],
        )
    )


def _fills(part: Mapping[str, Any]) -> str:
    rows = part["rows"]
    names = list(rows[0]["over_mean"])
    by_fill = _table(
        ("network", "size", "images", "convolutions", "ms per pass under the mean", *names),
        (
            [
                row["network"],
                f"{row['size']} px",
                "colour" if row["colour"] else "grey",
                row["convolutions"],
                f"{row['milliseconds_per_pass']:.1f}",
                *(f"{row['over_mean'][name]:.3f}" for name in names),
            ]
            for row in rows
        ),
    )
    by_control = _table(
        ("control", "masked passes of the demo, one fill", "in the passes without a control"),
        (
            [
                row["control"].replace("_", " "),
                f"{row['passes']:,.0f}",
                f"{row['passes'] / part['controls'][0]['passes']:.2f}",
            ]
            for row in part["controls"]
        ),
    )
    return (
        f"## Fills and controls\n\n`benchmarks/fills.py`: {part['images']} images masked at the demo's levels. Under each fill, the "
        f"time of the same passes as a multiple of that under the mean.\n\n{by_fill}\n\nA control costs its passes:\n\n{by_control}"
    )


def _finetuning(part: Mapping[str, Any]) -> str:
    return (
        f"## Finetuning\n\n`benchmarks/finetuning.py`: {part['models']} readouts of {part['epochs']} epochs on one VGG-16 "
        f"backbone, {part['images']} images of {part['size']} px. Keras' side is the median epoch times epochs and models.\n\n"
        + _table(
            ("Keras fit, s", "of that, one epoch", "sweep, s", "ratio"),
            [
                [
                    f"{part['keras_seconds']:.0f}",
                    f"{part['keras_seconds_per_epoch']:.2f}",
                    f"{part['ours_seconds']:.2f}",
                    f"{part['speedup']:.0f}",
                ]
            ],
        )
    )


def _study(part: Mapping[str, Any]) -> str:
    """What was measured of whole studies; `benchmarks/study.py --only` may have left parts out."""
    wholes = {name: part[key] for name, key in (("demo", "demo"), ("VGG-16, 112 px", "vgg")) if key in part}
    timed = [
        stage for stage in STAGES if any(stage in own["work_seconds_by_stage"] for own in wholes.values())
    ]
    sections = [
        "## Whole studies\n\n`benchmarks/study.py`. The floor is the study's necessary backbone passes times a plain pass with "
        "all cores. Work is all stages without the start-up of Ray, of the workers' TensorFlow and of Tune.",
        _table(
            (
                "study",
                "models",
                "passes",
                "ms per pass",
                "floor, s",
                "work, s",
                "work / floor",
                "start-up and report, s",
            ),
            (
                [
                    name,
                    str(own["models"]),
                    f"{own['backbone_passes']:,.0f}",
                    f"{1e3 * own['seconds_per_pass']:.2f}",
                    f"{own['floor_seconds']:.0f}",
                    f"{own['work_seconds']:.0f}",
                    f"{own['over_floor']:.2f}",
                    f"{own['start_up_and_report_seconds']:.0f}",
                ]
                for name, own in wholes.items()
            ),
        ),
        _table(
            ("study", *timed),
            (
                [f"{name}, s", *(f"{own['work_seconds_by_stage'][stage]:.1f}" for stage in timed)]
                for name, own in wholes.items()
            ),
        ),
    ]
    if "actors" in part:
        two = part["actors"]
        sections.append(
            f"One worker of one thread masks the demo at 64 px in {two['one_seconds']:.1f} s, two in "
            f"{two['two_seconds']:.1f} s: {two['speedup']:.2f} times as fast."
        )
    if "growth" in part:
        sections.append(_table(("masking of", "passes", "s", "ms per pass"), map(_grown, part["growth"])))
    if "driver" in part:
        sections.append(
            "The driver's memory as a study grows, with the real plan, pieces, Ray and loop, and workers that do nothing:"
        )
        columns = ("models", "granularity", "units", "pieces handed out", "rows", "driver, MB")
        sections.append(_table(columns, map(_driver, part["driver"])))
    return "\n\n".join(sections)


def _grown(row: Mapping[str, Any]) -> list[str]:
    name = "a small study" if row["doubled"] == "base" else f"twice the {row['doubled']}"
    return [name, f"{row['passes']:,.0f}", f"{row['masking_seconds']:.1f}", f"{row['ms_per_pass']:.2f}"]


def _driver(row: Mapping[str, Any]) -> list[str]:
    counts = [f"{row[name]:,}" for name in ("units", "pieces", "rows")]
    return [f"{row['models']:,}", row["granularity"], *counts, f"{row['driver_megabytes']:.0f}"]


def _queries(part: Mapping[str, Any]) -> str:
    tables = []
    for study in part["studies"]:
        rows = (
            [row["query"], f"{row['seconds']:.1f}", f"{row['peak_bytes'] / 1e6:.0f}"]
            for row in study["queries"]
        )
        tables.append(
            f"{study['rows']:,} rows in {study['files']:,} files ({study['bytes'] / 1e9:.2f} GB), {study['models']} models:\n\n"
            + _table(("query", "s", "peak MB"), rows)
        )
    first = part["studies"][0]
    return (
        f"## Queries\n\n`benchmarks/queries.py`: a simulated study; {first['threads']} threads, DuckDB limited to "
        f"{first['memory_limit']}, a process per query.\n\n" + "\n\n".join(tables)
    )


_SECTIONS = {
    "relevance": _relevance,
    "resnet50": _resnet50,
    "masking": _masking,
    "depths": _depths,
    "fills": _fills,
    "finetuning": _finetuning,
    "study": _study,
    "queries": _queries,
}


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 20 else f"{value:.0f}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
