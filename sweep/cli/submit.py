"""The subcommand that hands a study to a cluster, where it goes on without this machine."""

import json
import shlex
import sys
import tempfile
from contextlib import nullcontext
from math import inf
from pathlib import Path

import click
from click.core import ParameterSource

from sweep.actors.tunnel import DASHBOARD, tunnel
from sweep.cli.options import results_option, study_argument
from sweep.errors import InputError, Stopped, WorkError, redacted
from sweep.keys import key_of
from sweep.parcel import LARGEST, Parcel, pack
from sweep.storage.deposit import deposit
from sweep.storage.files import Files
from sweep.study import load_study

LISTED = "inputs.json"
"""What a job fetches from the bucket, beside the study."""


@click.command()
@study_argument
@click.option(
    "--address",
    default=DASHBOARD,
    show_default=True,
    metavar="URL",
    help="Dashboard of the Ray cluster, as `ray attach CLUSTER.yaml -p 8265` brings it here.",
)
@click.option(
    "--cluster",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File that you gave to `ray up` (infra/*.yaml): opens the way there and closes it.",
)
@results_option
@click.option("--follow", is_flag=True, help="Show what the run prints, until it ends.")
@click.pass_context
def submit(
    context: click.Context, study: Path, address: str, cluster: Path | None, results: str, follow: bool
) -> None:
    """Hand a study to a Ray cluster, which does it whatever becomes of this machine.

    The study file goes there with the images and weights that it names by relative paths: into the bucket of --results, each
    file once, or, where --results is a folder that all machines of the cluster see, through Ray (500 MB at most). Absolute
    paths are left alone: the cluster's head must see what they name.

    A study that runs already is not begun again: with --follow, its run is shown from its beginning. Ctrl-C and a
    closed lid leave it running. To end it: sweep stop, where the results can be reached.

    \b
    sweep submit studies/umist.yaml --cluster infra/ray-cluster.yaml --results s3://bucket/results
    sweep submit studies/umist.yaml --cluster infra/ray-cluster.yaml --results s3://bucket/results --follow
    sweep submit studies/demo.yaml --results /srv/results --address http://127.0.0.1:8266
    """
    if "://" not in results and not Path(results).is_absolute():
        raise InputError(
            f"--results {results}: is a folder of this machine; name a bucket (s3://…), or by its absolute path a "
            "folder that all machines of the cluster see"
        )
    if cluster and context.get_parameter_source("address") is not ParameterSource.DEFAULT:
        raise InputError("--cluster, --address: name the cluster by one of them")
    loaded = load_study(study)
    parcel = pack(loaded, inf if "://" in results else LARGEST)
    place = ["--cluster", str(cluster)] if cluster else ["--address", address] if address != DASHBOARD else []
    again = shlex.join(["sweep", "submit", str(study), "--results", results, "--follow", *place])
    with tunnel(cluster) if cluster else nullcontext():
        _submit(
            parcel,
            f"{loaded.name}-{key_of('job', loaded.name, results)}",
            address,
            results,
            study,
            again,
            follow,
        )


def _lay_out(parcel: Parcel, results: str, folder: Path) -> list[list[str]]:
    """Lay into `folder` what goes to the cluster with the job; returns what the job must do before the run.

    Where the results are in a bucket, so are the other files, each once however often it is submitted.
    """
    if "://" not in results or not parcel.others:
        parcel.unpack(folder)
        return []
    with click.progressbar(
        length=len(parcel.others), label="Sending images and weights", file=sys.stderr
    ) as bar:
        digests = deposit(Files(results), parcel.others, bar.update)
    parcel.unpack(folder, study_only=True)
    (folder / LISTED).write_text(json.dumps(digests), encoding="utf-8")
    return [["python", "-m", "sweep.storage.deposit", results, LISTED]]


def _submit(
    parcel: Parcel, name: str, address: str, results: str, study: Path, again: str, follow: bool
) -> None:
    """Begin the job, or find the one that goes on; `again` is what to type to see it later."""
    from sweep.actors.jobs import Jobs

    jobs = Jobs(address)
    with tempfile.TemporaryDirectory() as folder:
        commands = [
            *_lay_out(parcel, results, Path(folder)),
            ["sweep", "run", parcel.study, "--results", results],
        ]
        job, new = jobs.submit(name, commands, Path(folder))
    if new and parcel.elsewhere:
        more = len(parcel.elsewhere) - 1
        others = f" and {more} more absolute {'path' if more == 1 else 'paths'}" if more else ""
        click.echo(
            f"note: not sent: {parcel.elsewhere[0]}{others}; the cluster's head must have this there",
            err=True,
        )
    click.echo(f"{study}: {'submitted as' if new else 'runs already, as'} job {job.id}")
    if not follow:
        click.echo(redacted(f"Follow it with: {again}"))
        return
    try:
        ended = jobs.follow(job, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        raise Stopped(f"{study}: goes on as job {job.id}; follow it again with: {again}") from None
    except WorkError as error:
        raise WorkError(f"{error}; follow it again with: {again}") from None
    if ended.status != "SUCCEEDED":
        raise WorkError(f"{study}: job {job.id} ended as {ended.status}: {ended.message}")
