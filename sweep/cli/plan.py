"""The subcommand that says what a study comes to, and what it will cost."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from sweep.actors.address import check_address, is_joined
from sweep.cli.money import print_bill
from sweep.cli.options import address_option, open_study, results_option, say_notes, study_argument
from sweep.cli.study import show
from sweep.costs import bill, read_cluster_file
from sweep.errors import InputError
from sweep.keys import key_of
from sweep.lrp import Network
from sweep.plan import Plan
from sweep.runs.speed import CALIBRATION, REPORT_SECONDS, known_speeds, name_of_this_machine
from sweep.stages import stage_costs, stages_of
from sweep.stages.cost import PEAK_FLOPS, Size, Speed, StageCost, gpu_speed, scaled, size_of
from sweep.storage.store import Store

MANY_FILES = 200_000
"""From here on listing and opening files takes longer than reading them (docs/scaling.md)."""


@click.command()
@study_argument
@results_option
@address_option
@click.option(
    "--time/--no-time", "timed", default=True, help="Estimate the time, measuring the cluster once (15 s)."
)
@click.option("--models", type=click.IntRange(min=2), help="What if the study had so many models?")
@click.option("--images", type=click.IntRange(min=2), help="What if it had so many images?")
@click.option("--gpu", type=click.Choice(sorted(PEAK_FLOPS)), help="What if it ran on GPUs of this kind?")
@click.option("--gpus", type=click.IntRange(min=1), default=1, show_default=True, help="How many of them.")
@click.option(
    "--cluster",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What would it cost there? (infra/*.yaml)",
)
@click.option(
    "--interruptions",
    type=click.FloatRange(0, 60),
    default=0.05,
    show_default=True,
    help="How often each spot machine of --cluster is taken back, per hour.",
)
def plan(
    study: Path,
    results: str,
    address: str | None,
    timed: bool,
    models: int | None,
    images: int | None,
    gpu: str | None,
    gpus: int,
    cluster: Path | None,
    interruptions: float,
) -> None:
    """Check a study and show what it comes to and what it will cost, without beginning it.

    \b
    sweep plan studies/umist.yaml
    sweep plan studies/umist.yaml --no-time
    sweep plan studies/vpnl.yaml --models 10000 --gpu a100 --gpus 8
    sweep plan studies/umist.yaml --cluster infra/ray-cluster.yaml
    """
    rented = read_cluster_file(cluster) if cluster else None
    if rented:
        if gpu:
            raise InputError("--gpu, --cluster: the cluster file names the GPUs; leave --gpu out")
        gpu, gpus = rented.workers.kind.gpu, rented.workers.kind.gpus * rented.workers.most
    planned, store = open_study(study, results)
    if timed or gpu:
        check_address(address)
    show(planned, store)
    say_notes(planned)
    networks = planned.load_networks()
    here = size_of(planned, networks)
    speed = _speed(planned, networks, here, results, address) if timed or gpu else None
    if gpu and speed:
        speed = gpu_speed(gpu, gpus, speed)
    size = scaled(here, models, images)
    if size != here:
        click.echo(
            f"\nWhat if: {size.models:,} models (as further seeds), {size.images:,} images, "
            f"{size.mapped:,} of them with maps"
        )
    costs = [cost for cost in stage_costs(size) if cost.stage in stages_of(planned)]
    _print_costs(costs, speed, starts=3 if rented or is_joined(address) else 1)
    if rented and speed:
        print_bill(bill(costs, speed, rented, interruptions))
    if costs[-1].units > MANY_FILES and not size.cells:
        fewer = stage_costs(replace(size, cells=True))[-1].units
        click.echo(
            f"Masking would write {costs[-1].units:,} files; with masking.granularity: cell it writes {fewer:,}."
        )


def _print_costs(costs: list[StageCost], speed: Speed | None, starts: int) -> None:
    """Print what each stage takes; workers are started so many times."""
    table = Table("stage", box=None, pad_edge=False)
    for column in ("units", "passes", "GFLOP", "MB written", *(["time"] if speed else [])):
        table.add_column(column, justify="right")
    for cost in costs:
        table.add_row(*_row(cost, speed))
    total = StageCost("all", *(sum(getattr(cost, name) for cost in costs) for name in _SUMMED))
    table.add_row(*_row(total, speed), style="bold")
    Console(width=100).print("", table)
    if speed:
        click.echo(
            f"Time: {speed.basis}; starting the workers takes {_duration(starts * speed.start_seconds)} more, "
            f"and the report of a small study {_duration(REPORT_SECONDS)}."
        )


_SUMMED = ("units", "passes", "pass_flops", "other_flops", "bytes")


def _row(cost: StageCost, speed: Speed | None) -> list[str]:
    row = [
        cost.stage,
        f"{cost.units:,}",
        f"{cost.passes:,.0f}",
        f"{(cost.pass_flops + cost.other_flops) / 1e9:,.0f}",
        f"{cost.bytes / 1e6:,.1f}",
    ]
    return row + ([_duration(speed.seconds(cost))] if speed else [])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:,.1f} days"


def _speed(
    plan: Plan, networks: Mapping[str, Network], size: Size, results: str, address: str | None
) -> Speed:
    """What was measured before on this cluster for these networks, or a calibration now."""
    from sweep.actors.calibration import calibrate
    from sweep.actors.cluster import cluster, cluster_name

    root = Store(results)
    known = known_speeds(root)
    here = None if is_joined(address) else name_of_this_machine(plan)
    if here is None or here not in known:
        root.files.check_writable()
        with cluster(address):
            backbones = sorted(backbone.key for backbone in plan.backbones.values())
            here = here or key_of(cluster_name(), backbones)
            if here not in known:
                click.echo("\nMeasuring this cluster; the result is kept ...", err=True)
                known[here] = calibrate(plan, networks, size, root)
                measured = {name: asdict(speed) for name, speed in known.items()}
                root.write_file(CALIBRATION, json.dumps(measured, indent=1, sort_keys=True).encode())
    return known[here]
