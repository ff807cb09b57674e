"""Subcommands on networks, before there is a study."""

from pathlib import Path

import click


@click.group()
def models() -> None:
    """Look at networks before building a study on them."""


@models.command("show")
@click.argument("source")
@click.option("--features", metavar="LAYER", help="Layer whose output the readouts see.")
@click.option(
    "--size",
    type=click.IntRange(32, 1024),
    help="Images' pixels per side. [default: those that it was trained on, or 224]",
)
def models_show(source: str, features: str | None, size: int | None) -> None:
    """List a network's layers as relevance sees them, its features, its input, and what a pass costs.

    \b
    sweep models show bundled:faces-small
    sweep models show keras:runs/identity.keras --features conv5_block3_out
    sweep models show keras:ResNet50 --size 96
    sweep models show torchvision:resnet18.safetensors
    """
    from sweep.models.network import model_rules
    from sweep.models.show import layer_rows, said_of, said_of_input
    from sweep.models.weights import open_weights
    from sweep.stages.flops import pass_flops, relevance_passes
    from sweep.study import Pretraining
    from sweep.terminal.tables import print_table

    opened = open_weights(Pretraining(weights=source, features=features), Path(), source)
    network = opened.network(size or opened.trained_size or 224)
    print_table(layer_rows(network))
    click.echo("")
    click.echo(said_of_input(opened.preprocessing, opened.trained_size, is_declared=opened.is_declared))
    for line in said_of(network):
        click.echo(line)
    per_image, per_map = relevance_passes(network, model_rules("preset_a", "innvestigate", network)[:-1])
    pixels = network.input_shape[0]
    click.echo(
        f"a pass at {pixels} px: {pass_flops(network) / 1e9:.3g} GFLOP; relevance by preset_a takes {per_image:.2f} passes "
        f"per image and {per_map:.2f} per map"
    )
