"""The subcommand that puts two studies side by side."""

import click

from sweep.cli.options import results_of, results_option


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@results_option
def compare(first: str, second: str, results: str) -> None:
    """Show two studies side by side: settings that differ, accuracy, validity, transfer and area.

    A and B are study files, names of studies under the results root, or folders with results. Their images and weights
    are not needed.

    \b
    sweep compare studies/demo.yaml studies/demo-paper.yaml
    sweep compare results/demo /srv/results/demo
    """
    import pyarrow as pa

    from sweep.report.comparison import compare as compare_results
    from sweep.report.comparison import stored
    from sweep.terminal.tables import print_table

    places = [results_of(named, results) for named in (first, second)]
    found = compare_results(*(stored(place) for place in places))
    for letter, name, place in zip("ab", found.names, places, strict=True):
        click.echo(f"{letter}  {name}  {place}")
    titles = {
        "Settings that differ": found.settings,
        "Accuracy on images held back": found.accuracy,
        "Validity: specific loss of own masks, 95 % interval (above 0: they hurt more than the control)": found.validity,
        "Transfer index, 95 % interval, and whether the intervals overlap": found.transfer,
        "Mean area of accuracy over log percent masked (1 = masks never hurt)": found.auc,
    }
    for title, rows in titles.items():
        if len(rows):
            print_table(pa.Table.from_pandas(rows, preserve_index=False), f"\n{title}")
        else:
            click.echo(f"\n{title}: none")
