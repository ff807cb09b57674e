"""Subcommands on images, before there is a study."""

from pathlib import Path

import click

from sweep.errors import InputError


@click.group()
def data() -> None:
    """Look at images before building a study on them."""


@data.command("show")
@click.argument("source")
@click.option("--sheet", type=click.Path(path_type=Path), default="contact-sheet.png", show_default=True)
@click.option(
    "--white", type=click.FloatRange(min=0, min_open=True), help="Pixel value that is white (dataset.white)."
)
def data_show(source: str, sheet: Path, white: float | None) -> None:
    """Count a dataset's images by label, say what is odd about them, and write a contact sheet.

    \b
    sweep data show bundled:heads
    sweep data show folder:my-faces
    sweep data show manifest:faces/manifest.csv --sheet faces.png
    sweep data show manifest:scans/manifest.csv --white 4095
    """
    from sweep.data.images import load_images
    from sweep.data.show import THUMBNAIL, contact_sheet, counts
    from sweep.study import Dataset
    from sweep.terminal.tables import print_table

    images = load_images(Dataset(source=source, input_size=THUMBNAIL, white=white), Path())
    click.echo(f"{len(images.ids):,} images, split as the source says or else by the default settings")
    print_table(counts(images))
    for note in images.notes:
        click.echo(f"note: {note}", err=True)
    try:
        contact_sheet(images).save(sheet)
    except (OSError, ValueError) as error:
        raise InputError(f"--sheet {sheet}: cannot be written: {error}") from None
    click.echo(f"\nContact sheet: {sheet}")
