"""The figures of a study that show pictures: kernels, masked faces, maps, and the faces found most similar."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.figure import Figure

from sweep.arrays import Array
from sweep.numerics.masking import random_ranks, source_ranks
from sweep.plan import Model, Plan
from sweep.report.answers import Answers
from sweep.report.choices import agreement_counts, choice_agreement, verdict
from sweep.report.pictures import RankTwo, conv1_kernels, maps_across_models, masked_example, rank2_faces
from sweep.stages import masking, randomized, relevance
from sweep.storage.arrays import matrix
from sweep.storage.store import Unit

MAP_MODELS, MAP_FACES = 8, 3
"""Models and faces of the figure of maps."""
PERMUTED_DRAWS = 3
"""Draws of permuted weights in the figure of their maps."""
REMOVAL = {
    "absolute": "the highest absolute relevance",
    "positive": "the most positive relevance",
    "negative": "the most negative relevance",
    "least": "the lowest absolute relevance",
}
"""Which pixels go first, by the study's setting."""
RANK2_TARGETS = 8
"""Targets of the figure of rank-2 faces."""


Described: TypeAlias = tuple[Figure, str, str]
"""A figure, its caption, and what it shows in words with its numbers."""


class Impossible(Exception):
    """A figure cannot be drawn from this study; the message says why."""


def kernels(answers: Answers) -> Described:
    """First-layer kernels of each pretraining (paper, Fig. 1)."""
    networks, blocks = answers.plan.load_networks(), {}
    # Parts of one network, cut before different layers, begin with the same.
    for name, backbone in {
        one.source: (name, one) for name, one in [*answers.plan.backbones.items()][::-1]
    }.values():
        kernel = networks[name].first_kernel
        reverse = backbone.weights.preprocessing.channel_order == "BGR"
        blocks[name] = kernel[:, :, ::-1] if reverse else kernel
    counts = "; ".join(
        f"{name}: {block.shape[3]} kernels of {block.shape[0]} × {block.shape[1]}"
        for name, block in blocks.items()
    )
    colour = "; ".join(f"{name} {colourfulness(block):.2f}" for name, block in blocks.items())
    return (
        conv1_kernels(blocks),
        "First-layer kernels of each pretraining (paper, Fig. 1). Each is scaled by its own largest weight; grey is 0.",
        f"Grids of first-layer kernels in colour. {counts}. Share of a kernel's energy that is colour rather than "
        f"luminance, mean: {colour}.",
    )


def colourfulness(kernels: Array) -> float:
    """Mean over `kernels` (height, width, 3, kernel) of the share of squared weight not common to the channels."""
    grey = kernels.mean(axis=2, keepdims=True)
    whole = (kernels**2).sum(axis=(0, 1, 2))
    return float((((kernels - grey) ** 2).sum(axis=(0, 1, 2)) / np.maximum(whole, 1e-30)).mean())


def masked_faces(answers: Answers) -> Described:
    """A face masked by one model per pretraining and at random (paper, Fig. 2)."""
    plan = answers.plan
    position = relevance.chunks(plan)[0][0]
    image, percents = plan.images.ids[position], plan.study.masking.percents
    ranks = {}
    for name in plan.study.factors.pretraining:
        model = next((model for model in _mapped(plan) if model.cell.pretraining == name), None)
        if model is None:
            continue
        own = _maps(answers, relevance.units(plan)[model.id, 0], [position]).reshape(1, -1)
        ranks[model.id] = source_ranks(own, plan.study.masking.order, model.id, [image])[0]
    face = plan.images.pixels[position]
    for mask in masking.random_sources(plan)[:1]:
        ranks["random"] = random_ranks(mask, (plan.images.keys[position],), face.shape[0] * face.shape[1])[0]
    levels = ", ".join(f"{percent:g}" for percent in percents)
    removal = REMOVAL[plan.study.masking.order]
    control = "and at random" if masking.random_sources(plan) else "(the study has no random masks)"
    return (
        masked_example(face, ranks, percents),
        f"Image {image} with pixels removed by the map of one model per pretraining, {removal} first, {control} (paper, "
        "Fig. 2). "
        "Removed pixels are drawn pale yellow here, whatever the study puts in their place.",
        f"The face {image} at {levels} percent of pixels removed, one row each for: {', '.join(ranks)}. At the left "
        "the face is whole, at the right most or all of it is removed.",
    )


def model_maps(answers: Answers) -> Described:
    """Maps of one model per condition for a few faces (paper, Fig. 4)."""
    plan = answers.plan
    mapped = {model.id for model in _mapped(plan)}
    firsts = ([name for name in models if name in mapped] for models in answers.conditions.values())
    chosen = [names[0] for names in firsts if names][:MAP_MODELS]
    if not chosen:
        raise Impossible("No figure: the maps of the first images are missing.")
    faces = _drawn_faces(plan)
    maps = np.stack([_maps(answers, relevance.units(plan)[model, 0], faces) for model in chosen])
    more = len(answers.conditions) - len(chosen)
    similar = [
        row
        for row in answers.similarity.to_pylist()
        if row["condition_a"] == "all" and row["pearson"] is not None
    ]
    likeness = "; ".join(
        f"{answers.styles.relations[row['relation']].name} {row['pearson']:.2f}" for row in similar
    )
    return (
        maps_across_models(plan.images.pixels[faces], maps, chosen),
        "Relevance of the same faces in one model per condition, as maps and laid over the face (paper, Fig. 4). Red "
        "supports the true class, blue speaks against it. The strongest colour stands for the 99th percentile."
        + (f" The first {len(chosen)} of {len(answers.conditions)} conditions." if more > 0 else ""),
        f"{len(faces)} faces ({', '.join(plan.images.ids[f] for f in faces)}) and the relevance maps of "
        f"{', '.join(chosen)}."
        + (
            f" Mean correlation between the maps of two models, over all maps: {likeness}."
            if likeness
            else ""
        ),
    )


def permuted_maps(answers: Answers) -> Described:
    """Maps of a model per pretraining, and of the same with its weights permuted."""
    plan = answers.plan
    draws = randomized.draws(plan)[:PERMUTED_DRAWS]
    columns: dict[str, Unit] = {}
    for name in plan.backbones:
        for model in _mapped(plan):
            places = [(model.id, draw, 0) for draw in draws]
            if model.backbone == name and plan.gaps.randomized.isdisjoint(places):
                columns[model.id] = relevance.units(plan)[model.id, 0]
                columns |= {randomized.name_of(*place[:2]): randomized.units(plan)[place] for place in places}
                break
    chosen = dict(list(columns.items())[:MAP_MODELS])
    if not chosen:
        raise Impossible("No figure: the maps of the first images are missing.")
    faces = _drawn_faces(plan)
    maps = np.stack([_maps(answers, unit, faces) for unit in chosen.values()])
    likeness = "; ".join(
        f"{row['model_id']} {row['pearson']:.2f}"
        for row in answers.randomized.to_pylist()
        if row["model_id"] in chosen and row["pearson"] is not None
    )
    return (
        maps_across_models(plan.images.pixels[faces], maps, list(chosen)),
        "Relevance of the same faces in one model per pretraining, and in the same model with its weights permuted, draw by "
        "draw: what is left there comes from the image and the architecture (Adebayo et al. 2018). Colours as above."
        + (
            f" Mean correlation of a model's maps with those, by absolute value: {likeness}."
            if likeness
            else ""
        ),
        f"{len(faces)} faces ({', '.join(plan.images.ids[f] for f in faces)}) and the relevance maps of "
        f"{', '.join(chosen)}.",
    )


def second_choices(answers: Answers) -> Described:
    """Faces and what each pretraining finds most similar (paper, Fig. 7)."""
    rows = [row for row in answers.rank2.to_pylist() if row["choice"] is not None]
    if not rows:
        raise Impossible(
            "No figure: rank-2 faces need a task of more than two classes whose targets are recognised."
        )
    first = rows[0]["task"], rows[0]["extra"]
    by_image: dict[str, list[dict[str, Any]]] = {}
    ids = answers.plan.images.ids
    mapped = {ids[position] for position in answers.plan.selected}
    for row in rows:
        if (row["task"], row["extra"]) == first and row["image_id"] in mapped:
            by_image.setdefault(row["image_id"], []).append(row)
    order = ["different", "tied", "the same", "no choice"]
    ranked = sorted(
        by_image,
        key=lambda i: (order.index(verdict(by_image[i][0]["disagree"], by_image[i][0]["ambiguous"])), i),
    )
    if not ranked:
        raise Impossible(
            "No figure: none of the images with maps is recognised by the models of a condition."
        )
    pretrainings = list(answers.plan.study.factors.pretraining)
    faces = _faces(answers, first[0])
    targets = [
        _target(answers, by_image[image], image, pretrainings, faces) for image in ranked[:RANK2_TARGETS]
    ]
    told = "; ".join(
        f"{t.target}: " + ", ".join(f"{p} {c[0]} {c[2]}" for p, c in t.choices.items()) for t in targets
    )
    return (
        rank2_faces(targets, answers.styles),
        f"Faces shown and, per pretraining, the {first[0]} with the second-highest logit: the one the models find most "
        "similar (paper, Fig. 7). In brackets, the seeds that chose it. First come faces on which the pretrainings "
        "disagree.",
        f"Faces and the most similar other {first[0]} by pretraining: {told}.",
    )


def _target(
    answers: Answers,
    rows: Sequence[Mapping[str, Any]],
    image: str,
    pretrainings: Sequence[str],
    faces: Mapping[str, Array],
) -> RankTwo:
    pixels = answers.plan.images.pixels[answers.plan.images.ids.index(image)]
    chosen = {row["pretraining"]: row for row in rows}
    choices: dict[str, tuple[str, Array | None, str]] = {}
    for name in pretrainings:
        row = chosen.get(name)
        if row is None:
            choices[name] = ("none", None, "")
        else:
            votes = f"({row['votes']} of {row['n_models']}{', tied' if row['tied'] else ''})"
            choices[name] = (row["choice"], faces.get(row["choice"]), votes)
    return RankTwo(rows[0]["target"], pixels, choices)


def agreement(answers: Answers) -> Described:
    """On how many images the pretrainings' second choices differ."""
    if not answers.rank2.num_rows:
        raise Impossible("No figure: rank-2 choices need a task of more than two classes.")
    if len(answers.plan.study.factors.pretraining) < 2:
        raise Impossible("No figure: it compares pretrainings, and the study has one.")
    counts = agreement_counts(answers.rank2)
    listed = "; ".join(
        f"{task}: " + ", ".join(f"{name} {n}" for name, n in found.items()) for task, found in counts.items()
    )
    return (
        choice_agreement(answers.rank2),
        "On how many images the pretrainings' rank-2 choices differ; tied: a majority of seeds is shared by two classes. "
        + (
            "What people choose stands below."
            if answers.experiments
            else "What people would choose is not known yet: the study has no observers (sweep human)."
        ),
        f"Bars of image counts by whether the pretrainings' rank-2 choices differ. {listed}.",
    )


def _mapped(plan: Plan) -> list[Model]:
    """The models that have maps of the first images."""
    return [model for model in plan.present if (model.id, 0) not in plan.gaps.maps]


def _drawn_faces(plan: Plan) -> list[int]:
    """Some of the first images with maps, from the first to the last of them."""
    chunk = relevance.chunks(plan)[0]
    places = sorted(set(np.linspace(0, len(chunk) - 1, MAP_FACES).round().astype(int).tolist()))
    return [chunk[place] for place in places]


def _maps(answers: Answers, unit: Unit, positions: Sequence[int]) -> Array:
    """Maps of images of the first chunk, which `unit` holds, float32 (image, height, width)."""
    plan = answers.plan
    rows = answers.store.read([unit], columns=["image_id", "height", "width", "map"])
    places = [rows["image_id"].to_pylist().index(plan.images.ids[position]) for position in positions]
    return matrix(rows["map"])[places].reshape(-1, rows["height"][0].as_py(), rows["width"][0].as_py())


def _faces(answers: Answers, task: str) -> Mapping[str, Array]:
    """A face per class of `task`: the one nearest to frontal, with a map if there is such."""
    images = answers.plan.images
    views, selected = images.table["view_deg"].to_pylist(), set(answers.plan.selected)
    order = sorted(
        range(len(views)), key=lambda i: (i not in selected, abs(views[i]) if views[i] is not None else 0, i)
    )
    faces: dict[str, Array] = {}
    names = images.table[task].to_pylist()
    for position in order:
        faces.setdefault(names[position], images.pixels[position])
    return faces
