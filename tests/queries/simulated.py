"""Studies made of random numbers, written as the Parquet files a real study leaves."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from hypothesis import strategies as st

from sweep.storage.index import INDEX, index_of
from sweep.storage.schemas import MASKED_CELLS, SCHEMAS, with_extra

PERCENTS = (0.0, 0.1, 1.0, 10.0, 31.6, 100.0)


@dataclass(frozen=True)
class Model:
    """One model of a simulated study."""

    model_id: str
    pretraining: str
    task: str
    seed: int
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def factors(self) -> dict[str, str]:
        return {"pretraining": self.pretraining, "task": self.task, **dict(self.extra)}


@dataclass
class Study:
    """What is simulated: the models, what is left out, and how accuracy comes about."""

    models: list[Model]
    percents: Sequence[float] = PERCENTS
    n_images: int = 12
    n_random: int = 2
    n_blocks: int = 0
    fills: Sequence[str] = ("linear",)
    controls: dict[str, int] = field(default_factory=dict)
    """Draws of each control of a source model, by its name."""
    missing: set[tuple[str, str]] = field(default_factory=set)
    """(source, destination) pairs that were not evaluated, with any control."""
    accuracy: Callable[[np.random.Generator, str, str, float], float] | None = None
    """Probability of a correct answer from (generator, source, destination, percent)."""
    chance: Callable[["Mask"], float] | None = None
    """The same from all there is to know of a mask; goes before `accuracy`."""
    seed: int = 0
    attributions: Sequence[str] = ()
    """Levels of the factor attribution after 'lrp': their maps where the control `randomized` asks for maps, and their masks."""
    granularity: str = "image"
    """'image': one row of `masked` per image; 'cell': counts, one row per chunk of images."""
    chunk: int = 5
    """Images per row where the granularity is 'cell'; the last row of a cell has the rest."""

    @property
    def sources(self) -> list[str]:
        return [model.model_id for model in self.models] + [f"random-{k + 1}" for k in range(self.n_random)]

    def masks(self) -> Iterator["Mask"]:
        """Every mask at every level on every destination, but for what is missing."""
        kinds = [
            (source, "scattered" if source.startswith("random-") else "none", 1) for source in self.sources
        ]
        kinds += [(f"blocks-{k + 1}", "blocks", 1) for k in range(self.n_blocks)]
        kinds += [
            (model.model_id, control, draw)
            for control, draws in self.controls.items()
            for model in self.models
            for draw in range(1, draws + 1)
        ]
        for fill, (source, control, draw), model in product(self.fills, kinds, self.models):
            if (source, model.model_id) not in self.missing:
                for percent in self.percents:
                    yield Mask(source, control, draw, fill, model.model_id, percent)


@dataclass(frozen=True)
class Mask:
    """What one row of `masked` per image stands for."""

    source_id: str
    control: str
    draw: int
    fill: str
    destination_id: str
    percent: float


def known_transfer(transfer: float, own_loss: float = 0.4) -> Callable[[Mask], float]:
    """Chances under which every model's own masks cost `own_loss`, and foreign ones `transfer` times as much."""

    def chance(mask: Mask) -> float:
        if mask.control != "none":
            return 0.9
        return 0.9 - own_loss * (1 if mask.source_id == mask.destination_id else transfer)

    return chance


def factorial(
    pretrainings: int = 2,
    tasks: int = 2,
    seeds: int | dict[tuple[str, str], int] = 5,
    extra: dict[str, int] | None = None,
) -> list[Model]:
    """All cells of a factorial; `seeds` may differ per (pretraining, task)."""
    names = sorted(extra or {})
    # Levels sort the other way round than the names of their factors do.
    levels = [[f"{name[::-1]}{i}" for i in range((extra or {})[name])] for name in names]
    models = []
    for p, t in product(range(pretrainings), range(tasks)):
        pretraining, task = f"pre{p}", ("identity", "gender", "view")[t]
        count = seeds if isinstance(seeds, int) else seeds[pretraining, task]
        for chosen in product(*levels):
            for seed in range(1, count + 1):
                models.append(
                    Model(
                        "-".join([pretraining, task, *chosen, f"s{seed}"]),
                        pretraining,
                        task,
                        seed,
                        tuple(zip(names, chosen, strict=True)),
                    )
                )
    return models


def relation(source: Model, destination: Model) -> str:
    """The bin of a pair, written down a second time from the contract."""
    if source == destination:
        return "same_init"
    differing = sorted(name for name, level in source.factors.items() if destination.factors[name] != level)
    if not differing:
        return "same_task_same_pretraining"
    return "other_both" if differing == ["pretraining", "task"] else "other_" + "_".join(differing)


def write(study: Study, root: Path) -> None:
    """Write the tables images, models, predictions, similarity and masked, each as several files."""
    rng = np.random.default_rng(study.seed)
    images = [f"img{i:02d}" for i in range(study.n_images)]
    classes = [f"id{i:02d}" for i in range(study.n_images)]
    _write(
        root,
        "images",
        SCHEMAS["images"],
        [
            {
                "image_id": image,
                "identity": identity,
                "gender": "fm"[i % 2],
                "view_deg": 0.0,
                "split": "validation",
                "height": 8,
                "width": 8,
            }
            for i, (image, identity) in enumerate(zip(images, classes, strict=True))
        ],
    )
    extra = [name for name, _ in study.models[0].extra]
    _write(
        root,
        "models",
        with_extra("models", extra),
        [
            {
                "model_id": model.model_id,
                "model_key": "k" + model.model_id,
                "pretraining": model.pretraining,
                "task": model.task,
                "seed": model.seed,
                "n_classes": 2 if model.task == "gender" else study.n_images,
                "epochs": 25,
                "train_accuracy": 1.0,
                "val_accuracy": 1.0,
                "weights_uri": "weights",
                "weights_sha256": "0",
                "mlflow_run_id": None,
                **dict(model.extra),
            }
            for model in study.models
        ],
        files=2,
    )
    _write_predictions(study, root, images, classes, rng)
    pairs = [(a, b) for i, a in enumerate(study.models) for b in study.models[i + 1 :]]
    _write(
        root,
        "similarity",
        SCHEMAS["similarity"],
        [
            {
                "image_id": image,
                "model_a": a.model_id,
                "model_b": b.model_id,
                "pearson": None if rng.random() < 0.02 else float(rng.uniform(-0.2, 0.95)),
            }
            for a, b in pairs
            for image in images[:3]
        ],
    )
    _write_masked(study, root, images, rng)
    if "randomized" in study.controls:
        _write_maps(study, root, images[:3])
    for level in study.attributions:
        _write_attribution(study, level, root, images)
    write_index(root, study.attributions)


def write_index(root: Path, attributions: Sequence[str] = ()) -> None:
    """Write the index of all files that are there; `attributions` are the levels after 'lrp'."""
    paths = [path.relative_to(root).as_posix() for path in root.glob("*/*.parquet")]
    settings = {"attributions": ",".join(["lrp", *attributions])} if attributions else {}
    (root / INDEX).write_bytes(index_of(paths, settings))


def _write_attribution(study: Study, level: str, root: Path, images: Sequence[str]) -> None:
    """Write a level's maps and masks, with numbers of their own."""
    rng = np.random.default_rng([study.seed, len(level)])
    if (root / "relevance").is_dir():
        maps = pq.read_table(root / "relevance").to_pylist()
        rows = [{**row, "attribution": level, "map": rng.uniform(-1, 1, 16)} for row in maps]
        _write(root, "attributions", SCHEMAS["attributions"], rows)
    masked = pq.read_table(root / "masked")
    of_maps = masked.filter(
        pa.compute.invert(pa.compute.is_in(masked["control"], pa.array(["scattered", "blocks"])))
    )
    correct = pa.array(rng.random(len(of_maps)) < rng.uniform(0.2, 0.9))
    of_maps = of_maps.set_column(
        of_maps.column_names.index("correct"), of_maps.schema.field("correct"), correct
    )
    column = SCHEMAS["masked_attributions"].field("attribution")
    _write_table(
        root, "masked_attributions", of_maps.add_column(1, column, pa.array([level] * len(of_maps))), 2
    )


def _write_predictions(
    study: Study, root: Path, images: Sequence[str], classes: Sequence[str], rng: np.random.Generator
) -> None:
    rows = []
    for model in study.models:
        names = ["f", "m"] if model.task == "gender" else list(classes)
        for i, image in enumerate(images):
            # The true class mostly wins, and few classes compete for the second place.
            logits = rng.normal(size=len(names))
            logits[(i + 1) % len(names)] += 3
            logits[(i + 2) % len(names)] += 3
            logits[i % len(names)] += 8
            for rank, index in enumerate(np.argsort(-logits)[:3], start=1):
                rows.append(
                    {
                        "model_id": model.model_id,
                        "image_id": image,
                        "rank": rank,
                        "class": names[index],
                        "logit": float(logits[index]),
                    }
                )
    _write(root, "predictions", SCHEMAS["predictions"], rows)


def _write_masked(study: Study, root: Path, images: Sequence[str], rng: np.random.Generator) -> None:
    columns: dict[str, list[object]] = {name: [] for name in SCHEMAS["masked"].names}
    for mask in study.masks():
        if study.chance:
            chance = study.chance(mask)
        elif study.accuracy:
            chance = study.accuracy(rng, mask.source_id, mask.destination_id, mask.percent)
        else:
            chance = float(rng.uniform(0.2, 1.0))
        for name, value in dataclasses.asdict(mask).items():
            columns[name] += [value] * len(images)
        columns["image_id"] += list(images)
        columns["predicted_class"] += ["x"] * len(images)
        columns["correct"] += (rng.random(len(images)) < chance).tolist()
        # Every image has its own, lower by the chance to be wrong; no draw, so that `correct` stays what it was.
        columns["target_logit"] += [8 * chance - 1 + 0.1 * index for index in range(len(images))]
    table = pa.table(columns, schema=SCHEMAS["masked"])
    if study.granularity == "cell":
        table = _counted(table, {image: i // study.chunk for i, image in enumerate(images)})
    _write_table(root, "masked", table, files=3)


def _write_maps(study: Study, root: Path, images: Sequence[str]) -> None:
    """Write the tables relevance and randomized; the first model's map of the first image is constant."""
    rng = np.random.default_rng([study.seed, 1])
    draws = range(1, study.controls["randomized"] + 1)
    tables: dict[str, list[dict[str, object]]] = {
        "relevance": [{} for _ in study.models for _ in images],
        "randomized": [{"draw": draw} for _ in study.models for _ in images for draw in draws],
    }
    for name, rows in tables.items():
        each = len(rows) // (len(study.models) * len(images))
        for index, row in enumerate(rows):
            place, image = divmod(index // each, len(images))
            row |= {
                "model_id": study.models[place].model_id,
                "image_id": images[image],
                "target_class": "x",
                "logit": 1.0,
                "max_abs": 1.0,
                "height": 4,
                "width": 4,
                "map": rng.uniform(-1, 1, 16) if place or image else np.full(16, 0.3),
            }
        _write(root, name, SCHEMAS[name], rows)


def _counted(rows: pa.Table, chunk_of: dict[str, int]) -> pa.Table:
    """Rows per image summed to one row per cell and chunk of images."""
    frame = rows.to_pandas()
    frame["chunk"] = frame["image_id"].map(chunk_of)
    keys = ["source_id", "control", "draw", "fill", "destination_id", "percent", "chunk"]
    grouped = frame.groupby(keys, as_index=False)
    counts = grouped.agg(n=("correct", "size"), correct=("correct", "sum"))
    return pa.Table.from_pandas(counts[MASKED_CELLS.names], schema=MASKED_CELLS, preserve_index=False)


def _write(root: Path, name: str, schema: pa.Schema, rows: list[dict[str, object]], files: int = 2) -> None:
    _write_table(root, name, pa.Table.from_pylist(rows, schema=schema), files)


def _write_table(root: Path, name: str, table: pa.Table, files: int) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-table.num_rows // files)
    for part in range(files):
        piece = table.slice(part * size, size)
        if piece.num_rows:
            pq.write_table(piece, folder / f"part-{part}.parquet")


def expected_auc(root: Path, study: Study, fill: str | None = None) -> pd.DataFrame:
    """Mean AUC per destination and bin under one fill, from the files by pandas and not by SQL; complete pairs only."""
    masked = pd.read_parquet(root / "masked")
    masked = masked[
        (masked["fill"] == (fill or study.fills[0])) & masked["control"].isin(["none", "scattered", "blocks"])
    ]
    models = {model.model_id: model for model in study.models}
    curves = (
        masked.groupby(["source_id", "destination_id", "percent"])["correct"]
        .mean()
        .unstack("percent")
        .dropna()
    )
    percents = curves.columns.to_numpy(dtype=np.float64)
    inside = (percents > 0) & (percents < 100)
    x = np.log10(percents[inside])
    rows = []
    for pair, values in zip(curves.index.tolist(), curves.to_numpy(dtype=np.float64), strict=True):
        source, destination = pair
        model = models[destination]
        rows.append(
            {
                "destination_id": destination,
                "source_id": source,
                "pretraining": model.pretraining,
                "task": model.task,
                "extra": ", ".join(f"{name}={level}" for name, level in model.extra),
                "condition": model.model_id.rpartition("-")[0],
                "relation": relation(models[source], model) if source in models else source.partition("-")[0],
                "auc": np.trapezoid(values[inside], x) / np.ptp(x),
                "auc_linear": np.trapezoid(values, percents) / np.ptp(percents),
            }
        )
    keys = ["condition", "pretraining", "task", "extra", "destination_id", "relation"]
    return pd.DataFrame(rows).groupby(keys, as_index=False)[["auc", "auc_linear"]].mean()


@st.composite
def studies(draw: st.DrawFn) -> Study:
    """Any factorial: one to three levels, one to four seeds in each cell by itself, extra factors, lost pairs."""
    pretrainings, tasks = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    extra = draw(st.sampled_from([{}, {}, {"head": 2}, {"augment": 2}]))
    probe = factorial(pretrainings, tasks, 1)
    seeds = {(model.pretraining, model.task): draw(st.integers(1, 4)) for model in probe}
    models = factorial(pretrainings, tasks, seeds, extra)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    study = Study(
        models, percents=(0.0, 0.3, 3.2, 31.6, 100.0), n_images=7, n_random=1, seed=int(rng.integers(2**31))
    )
    share = draw(st.sampled_from([0.0, 0.0, 0.1, 0.5]))
    study.missing = {
        (source, model.model_id) for source in study.sources for model in models if rng.random() < share
    }
    # One pair must be left, or there is no table at all.
    study.missing.discard((models[0].model_id, models[0].model_id))
    return study
