"""The subcommand that does the study that comes with the package."""

from pathlib import Path

import click

from sweep.cli.options import address_option, results_option
from sweep.errors import InputError

FILE = "demo.yaml"


@click.command()
@click.option("--no-run", is_flag=True, help="Only write the study file.")
@results_option
@address_option
@click.pass_context
def demo(context: click.Context, no_run: bool, results: str, address: str | None) -> None:
    """Write the study that comes with the package to demo.yaml, and run it: 20 models, about 7 minutes on 2 CPUs.

    It needs no pictures and no weights of yours. Every other command takes demo.yaml afterwards. A demo.yaml that is
    there already is kept, and refused where it is another study.

    \b
    sweep demo
    sweep demo --no-run && sweep plan demo.yaml
    """
    path, content = Path(FILE), _bundled().read_bytes()
    if path.exists():
        if path.read_bytes() != content:
            raise InputError(f"{path}: is another study; move it away, or change to another folder")
    else:
        path.write_bytes(content)
        click.echo(f"Wrote {path}", err=True)
    if no_run:
        return
    from sweep.cli.study import run

    context.invoke(run, study=path, results=results, address=address, refresh=None)


def _bundled() -> Path:
    """The study file: in an installed wheel inside the package, in a checkout beside it."""
    package = Path(__file__).resolve().parents[1]
    for path in (package / "_studies" / FILE, package.parent / "studies" / FILE):
        if path.is_file():
            return path
    raise InputError(f"the demo's study file is missing: {package / '_studies' / FILE}; reinstall")
