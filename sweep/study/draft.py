"""A first study file for someone's pictures, with a comment beside each block that says what to change."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from sweep.study.settings import Dataset, StudySettings

SEEDS = (1, 2, 3, 4, 5)
BACKBONES = {"objects": "bundled:objects-small", "faces": "bundled:faces-small"}


@dataclass(frozen=True)
class Draft:
    """What a first study on some pictures is made of."""

    source: str
    input_size: int
    tasks: tuple[str, ...]
    further: tuple[str, ...] = ()
    """Labels that could be tasks as well."""
    has_split: bool = False
    """Whether the source says which pictures are held back."""
    validation_fraction: float = Dataset.model_fields["validation_fraction"].default
    stratify: str = Dataset.model_fields["stratify"].default


def name_for(path: Path) -> str:
    """A study's name made of a file's or a folder's."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", path.name).strip("-._") or "study"


def text_of(draft: Draft, path: Path, pictures: str) -> str:
    """The study file that will stand at `path`; `pictures` names what it was made of."""
    masking = StudySettings.model_fields["masking"].default
    file = shlex.quote(_printable(path.name, "STUDY.yaml"))
    blocks = [
        f"# Do two networks look at the same pixels? Made by `sweep new` of {_printable(pictures, 'pictures')}.\n"
        "# Every line may be changed, and `sweep plan` says at once whether it can be done so.\n"
        "#\n"
        f"#   sweep plan {file}\n"
        f"#   sweep run  {file}\n"
        "\n"
        "# The results go to results/NAME. Under another name everything is computed again.\n"
        f"{_line('name', name_for(path.with_suffix('')))}",
        f"dataset:\n{_indented(_dataset(draft))}",
        "# Every combination of these is one model, and every model is compared with every other.\n"
        f"factors:\n{_indented(_factors(draft))}",
        "# Which pictures get maps and masks: one of each person, among those held back. A larger per_identity gives tighter\n"
        "# intervals and takes longer in proportion.\n"
        "relevance:\n  images:\n    where: {split: validation}\n    per_identity: 1",
        f"masking:\n{_indented(_masking(masking.percents, masking.fills, masking.controls))}",
    ]
    return "\n\n".join(blocks) + "\n"


def _dataset(draft: Draft) -> str:
    lines = [
        "# Where the pictures are; the path starts at this file.",
        _line("source", draft.source),
        "# Height and width at which the networks see them, pixels. Twice as large takes four times as long.",
        f"input_size: {draft.input_size}",
    ]
    if draft.has_split:
        return "\n".join([*lines, "# The source itself says which pictures are held back from training."])
    return "\n".join(
        [
            *lines,
            f"# This share of the pictures of each {_printable(draft.stratify, 'value')} is held back from training, to be judged on.",
            f"validation_fraction: {draft.validation_fraction:g}",
            _line("stratify", draft.stratify),
        ]
    )


def _factors(draft: Draft) -> str:
    lines = [
        "# Networks whose readout is trained on your pictures. These two are small and come with the package: one learned",
        "# objects, one learned rendered faces. Larger ones: keras:imagenet (fetched once), or files of your own: npz:PATH.",
        "pretraining:",
        *(f"  {level}: {weights}" for level, weights in BACKBONES.items()),
        "# What is told apart: labels of the pictures.",
    ]
    if draft.further:
        lines.append(f"# These could be added: {', '.join(draft.further)}.")
    return "\n".join(
        [
            *lines,
            f"task: {_listed(draft.tasks)}",
            "# Random initialisations of each readout. Another seed is added to what is stored; with two a first look is quick.",
            f"seed: {_listed(SEEDS)}",
        ]
    )


def _masking(percents: Sequence[float], fills: Sequence[str], controls: Sequence[str]) -> str:
    return "\n".join(
        [
            "# Shares of the pixels that are removed, those of the highest relevance first.",
            f"percents: {_listed([f'{percent:g}' for percent in percents])}",
            "# What takes their place: linear (imputed from their neighbours), mean (the paper's), zero, grey, noise, blur.",
            f"fills: {_listed(fills)}",
            "# Masks of the same size that do not know the picture; a map's masks must do more harm than these.",
            f"controls: {_listed(controls)}",
        ]
    )


def _printable(name: str, instead: str) -> str:
    """A name that may stand in a comment, which ends with its line."""
    return name if name.isprintable() else instead


def _line(key: str, value: str) -> str:
    """A key and a text in YAML, quoted where it must be."""
    dumped: str = yaml.safe_dump({key: value}, allow_unicode=True, width=float("inf"))
    return dumped.rstrip("\n")


def _listed(values: Sequence[object]) -> str:
    return f"[{', '.join(map(str, values))}]"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))
