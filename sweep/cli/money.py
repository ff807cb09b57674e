"""What `sweep plan --cluster` says of money."""

import click
from rich.console import Console
from rich.table import Table

from sweep.costs import Bill
from sweep.costs.prices import DATED, SOURCE, SPOT_SHARE


def print_bill(bill: Bill) -> None:
    """Show hours and money by type of machine, and what interruptions add."""
    table = Table("node type", "machine", "market", box=None, pad_edge=False)
    for column in ("machines", "hours each", "$ per hour", "$"):
        table.add_column(column, justify="right")
    for item in bill.items:
        kind = item.node_type
        table.add_row(
            kind.name,
            kind.machine,
            "spot" if kind.spot else "on demand",
            str(item.machines),
            f"{item.hours:,.1f}",
            f"{kind.dollars:.2f}",
            f"{item.dollars:,.2f}",
        )
    table.add_row("all", "", "", "", "", "", f"{bill.dollars:,.2f}", style="bold")
    Console(width=100).print("", table)
    click.echo(
        f"Prices of {DATED}, from {SOURCE}; spot at {SPOT_SHARE:.0%} of them, an assumption. Look up today's."
    )
    if any(item.node_type.spot for item in bill.items):
        click.echo(
            f"If each spot machine is taken back {bill.per_hour:g} times an hour (an assumption; --interruptions), that adds "
            f"{bill.mean.hours:,.1f} h and {bill.mean.dollars:,.2f} $ on average, and in one study of twenty "
            f"{bill.worst.hours:,.1f} h and {bill.worst.dollars:,.2f} $ or more (simulated)."
        )
