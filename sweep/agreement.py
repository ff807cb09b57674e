"""Whether a study file, its images and its weights agree: what can be known before any work, a line per problem."""

from collections.abc import Iterator, Mapping, Sequence

from sweep.data.images import TRAIN, VALIDATION, Images
from sweep.errors import InputError
from sweep.study import Finetune, Pretraining, Study
from sweep.study.names import folded


def same_backbones(keys: Mapping[str, str]) -> Iterator[str]:
    """Levels of pretraining that are one backbone under two names; `keys` of the backbones, by level."""
    seen: dict[str, str] = {}
    for name, key in keys.items():
        other = seen.setdefault(key, name)
        if other != name:
            yield (
                f"factors.pretraining: {other} and {name} have the same weights and the same preprocessing; "
                "remove or change one of them"
            )


def check_split(study: Study, images: Images) -> Iterator[str]:
    """What the images leave without a meaning: an empty validation split, factors, their names."""
    split = images.table["split"].to_pylist()
    if VALIDATION not in split:
        yield (
            f"dataset.validation_fraction: {study.dataset.validation_fraction:g} of {len(split)} images holds none back, "
            f"so no accuracy could be told; raise it to {1 / len(split):.2g} or more"
        )
    labels = {folded(label) for label in images.label_columns}
    n_train = split.count(TRAIN)
    for name, levels in study.factors.extra.items():
        if folded(name) in labels:
            yield f"factors.{name}: the images have a label of that name; rename the factor"
        seen: dict[Finetune, str] = {}
        for level, changes in levels.items():
            settings = study.finetune.model_copy(update=changes.changes)
            # A batch holds all training images at most.
            settings = settings.model_copy(update={"batch_size": min(settings.batch_size, n_train)})
            other = seen.setdefault(settings, level)
            if other != level:
                yield (
                    f"factors.{name}: the levels {other} and {level} come to the same settings "
                    f"with {n_train} training images; remove or change one of them"
                )


def untrained_classes(images: Images, labels: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Classes that no training image has; `labels` of all images, by task."""
    split = images.table["split"].to_pylist()
    for task, named in labels.items():
        trained = {name for name, part in zip(named, split, strict=True) if part == TRAIN}
        untrained = set(named) - trained
        if untrained:
            yield (
                f"factors.task: no training image has {task} '{min(untrained)}'; "
                f"add images to train on, or set dataset.stratify to '{task}' if the study draws the split"
            )


def unnamed_classes(study: Study, labels: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Labels that are no class of a readout that was trained elsewhere; `labels` of all images, by task."""
    for name, level in study.factors.pretraining.items():
        for task, classes in level.classes.items():
            if task not in labels:
                yield f"factors.pretraining.{name}.classes: '{task}' is no level of the factor task"
            elif unknown := set(labels[task]) - set(classes):
                yield (
                    f"factors.pretraining.{name}.classes.{task}: lacks '{min(unknown)}', a label of the images; name all "
                    f"{len(classes)} classes of the file in the order of its last dense layer"
                )


def check_own_readout(name: str, level: Pretraining, outputs: int) -> None:
    """Raise InputError where a file's last dense layer has another number of outputs than the classes that are named."""
    problems = [
        f"factors.pretraining.{name}.classes.{task}: names {len(classes)} classes, and the last dense layer of "
        f"'{level.weights}' has {outputs} outputs"
        for task, classes in level.classes.items()
        if len(classes) != outputs
    ]
    if problems:
        raise InputError(*problems)


def check_controls(
    study: Study, labels: Mapping[str, Sequence[str]], selected: Sequence[int]
) -> Iterator[str]:
    """Controls that the images with maps leave impossible; `labels` of all images, by task."""
    if "other_image" in study.masking.controls:
        for task, named in labels.items():
            if len({named[position] for position in selected}) < 2:
                yield (
                    f"masking.controls: other_image needs maps of images of two classes, and relevance.images keeps one of "
                    f"{task}; keep more, or leave this control out"
                )
    if "mean_map" in study.masking.controls and len(selected) < 2:
        yield "masking.controls: mean_map needs maps of two images; keep more, or leave this control out"
