"""Subcommands that help to write a study file."""

import json
import os
import shlex
from pathlib import Path

import click

from sweep.errors import InputError

SCHEMA = "study.schema.json"
"""Where `sweep schema` is stored beside studies, as the docs say."""


@click.command()
@click.argument(
    "pictures", metavar="FOLDER|MANIFEST.csv|FILE.mat", type=click.Path(path_type=Path), required=False
)
@click.option(
    "--from",
    "model",
    type=click.Path(path_type=Path),
    metavar="STUDY.yaml",
    help="Take everything else from this study file, with its comments; --output must lie beside it.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="STUDY.yaml",
    help="Study file to write. [default: named after the pictures, in this folder]",
)
def new(pictures: Path | None, model: Path | None, output: Path | None) -> None:
    """Look at pictures and write a first study of them, with comments that say what to change.

    A folder holds a folder for each person, with the person's pictures in it. A manifest is a CSV file with the
    columns path and identity. A .mat file is that of UMIST or ORL.

    \b
    sweep new my-faces
    sweep new faces/manifest.csv --output studies/faces.yaml
    sweep new umist.mat
    sweep new --from my-faces.yaml --output longer.yaml
    """
    from sweep.data.proposal import kind_of, propose
    from sweep.data.show import counts
    from sweep.plan import plan_of
    from sweep.study import parse_study
    from sweep.study.draft import name_for, text_of
    from sweep.terminal.tables import print_table

    if pictures is None and (model is None or output is None):
        raise click.UsageError(
            "--from: name the new file with --output"
            if model
            else "Missing argument 'FOLDER|MANIFEST.csv|FILE.mat'."
        )
    if pictures is not None and not pictures.exists():
        raise InputError(
            f"{pictures}: no such folder or file; name a folder of pictures, a manifest or a .mat file"
        )
    path = output or Path(f"{name_for(_named_after(pictures or Path()))}.yaml")
    _check_output(path, pictures)
    source = f"{kind_of(pictures)}:{_as_seen_from(path.parent, pictures)}" if pictures else None
    if model:
        written = _varied(model, path, name_for(path.with_suffix("")), source)
    else:
        assert pictures is not None
        written = text_of(propose(source or "", path.parent), path, _named_after(pictures).name).encode()
    if not model and (path.parent / SCHEMA).is_file():
        written = f"# yaml-language-server: $schema={SCHEMA}\n".encode() + written
    try:
        plan = plan_of(parse_study(path, written))
    except InputError as error:
        # The file is not there, so it is not where to look.
        raise InputError(*(problem.removeprefix(f"{path}: ") for problem in error.problems)) from None
    with path.open("xb") as file:
        file.write(written)
    shown = pictures or plan.study.dataset.source.partition(":")[2]
    click.echo(f"{len(plan.images.ids):,} pictures in {shown}")
    print_table(counts(plan.images))
    for note in plan.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"\nWrote {path}: {len(plan.models)} models that tell {' or '.join(plan.study.factors.task)} apart, "
        f"{len(plan.selected):,} pictures with maps, {plan.study.dataset.input_size} px.\n\nNext:\n"
        f"  sweep plan {shlex.quote(str(path))}    what it comes to, and how long it takes\n"
        f"  sweep run {shlex.quote(str(path))}     do it"
    )


@click.command()
def schema() -> None:
    """Print a JSON schema of the study file, by which editors complete and check it.

    \b
    sweep schema > study.schema.json
    """
    from sweep.study.settings import StudySettings

    described = StudySettings.model_json_schema()
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    click.echo(json.dumps(dialect | described, indent=2))


def _named_after(pictures: Path) -> Path:
    """What a study of these pictures is named after: a manifest that is only called so says less than its folder."""
    whole = Path(os.path.abspath(pictures))  # noqa: PTH100 - a link's own name is meant
    if whole.is_dir():
        return whole
    return whole.parent if whole.stem in ("manifest", "labels", "index") else whole.with_suffix("")


def _varied(model: Path, path: Path, name: str, source: str | None) -> bytes:
    """The study file `model` under another name, which will stand at `path`. Raises InputError where it is none."""
    from sweep.study import Study
    from sweep.study.variation import varied

    Study.load(model)
    if model.resolve().parent != path.parent.resolve():
        raise InputError(f"--output {path}: must lie beside {model}, as the paths in it start at its folder")
    return varied(model.read_text(encoding="utf-8"), name, source).encode()


def _check_output(path: Path, pictures: Path | None) -> None:
    if os.path.lexists(path):
        raise InputError(f"{path}: is there already; name another file with --output, or move it away")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: there is no folder {path.parent}; make it first")
    folder = path.parent.resolve()
    if pictures and pictures.is_dir() and folder.is_relative_to(pictures.resolve()):
        raise InputError(
            f"{path}: would lie among the pictures; run the command in another folder, or name a file elsewhere with --output"
        )


def _as_seen_from(folder: Path, pictures: Path) -> str:
    """The path of the pictures from a folder, as study files have it."""
    start = folder.resolve()  # as the system goes up from a link's target
    whole = Path(os.path.abspath(pictures))  # noqa: PTH100
    relative = Path(os.path.relpath(whole.parent.resolve() / whole.name, start)).as_posix()
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise InputError(f"{pictures}: its path is not UTF-8, as study files are; rename it") from None
    return relative
