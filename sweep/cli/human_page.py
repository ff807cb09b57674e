"""Subcommands that show an experiment to people: its page, the collector, how far it is, and withdrawal."""

from pathlib import Path

import click

from sweep.cli.options import experiment_option, open_study, results_option, study_argument
from sweep.errors import InputError

DEFAULT_PAGE = Path("human-page")
DEFAULT_JOURNAL = Path("human-journal.jsonl")

page_argument = click.argument(
    "page_folder", metavar="PAGE", type=click.Path(path_type=Path), default=DEFAULT_PAGE, required=False
)
journal_option = click.option(
    "--journal",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_JOURNAL,
    show_default=True,
    help="File of the answers, on a local disk.",
)
secret_option = click.option(
    "--secret",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the experiment's secret. [default: ~/.config/relevance-sweep/human/EXPERIMENT.secret]",
)


@click.command()
@study_argument
@results_option
@experiment_option
@click.option("--contact", required=True, help="Whom an observer may write to: a name and an e-mail address.")
@click.option("--out", type=click.Path(path_type=Path), default=DEFAULT_PAGE, show_default=True)
@click.option("--texts", type=click.Path(path_type=Path, dir_okay=False), help="JSON of own texts.")
@click.option(
    "--jatos", type=click.Path(path_type=Path, dir_okay=False), help="Write an archive for JATOS too (.jzip)."
)
def page(
    study: Path,
    results: str,
    experiment: str | None,
    contact: str,
    out: Path,
    texts: Path | None,
    jatos: Path | None,
) -> None:
    """Write the page that shows an experiment's trials: a folder of static files.

    Put the folder on a web server, open its index.html as a file, or serve it with the collector.

    \b
    sweep human page studies/demo.yaml --contact "Vision lab, vision@example.org"
    sweep human page studies/demo.yaml --contact "Vision lab, vision@example.org" --jatos faces.jzip
    """
    from sweep.human.jatos import archive
    from sweep.human.pages import page_files, page_texts, write_file, write_folder
    from sweep.human.tables import TRIALS, chosen_experiment, read_table

    if jatos is not None and jatos.suffix != ".jzip":
        raise InputError(f"--jatos {jatos}: JATOS takes files that end in .jzip")
    if not contact.strip():
        raise InputError("--contact: is empty; name whom an observer may write to")
    words = page_texts(texts)
    plan, store = open_study(study, results)
    experiment_id = chosen_experiment(store.files, experiment)
    trials = read_table(store.files, experiment_id, TRIALS)
    pictures = dict(zip(plan.images.ids, plan.images.pixels, strict=True))
    made = page_files(trials, pictures, contact.strip(), words)
    write_folder(out, made)
    lists = len(set(trials["list"].to_pylist()))
    click.echo(
        f"Page     {out / 'index.html'}  (experiment {experiment_id}: {lists} lists of {trials.num_rows // lists} trials, "
        f"{', '.join(words)})"
    )
    if jatos is not None:
        write_file(jatos, archive(made, f"{plan.study.name}: {words['en']['title']}"))
        click.echo(f"JATOS    {jatos}")


@click.command()
@page_argument
@journal_option
@secret_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8020, show_default=True, help="0 = any free one."
)
def collect(page_folder: Path, journal: Path, secret: Path | None, host: str, port: int) -> None:
    """Serve the page in the folder PAGE and store the answers, each before it is acknowledged.

    Runs until Ctrl-C. Start it again at any time: pages wait, and go on where they were.

    \b
    sweep human collect
    sweep human collect human-page --journal answers/faces.jsonl
    """
    from sweep.human.collector import Collector
    from sweep.human.pages import experiment_of, read_folder
    from sweep.human.pseudonyms import secret_path

    experiment_id = experiment_of(read_folder(page_folder))["experiment_id"]
    collector = Collector(page_folder, journal, secret or secret_path(experiment_id), host, port)
    if host not in ("127.0.0.1", "localhost", "::1"):
        click.echo(
            "note: answers reach this address unencrypted; put a reverse proxy with TLS before it (docs/human.md)",
            err=True,
        )
    click.echo(f"Page     {collector.address}\nJournal  {journal}")
    try:
        collector.serve()
    except KeyboardInterrupt:
        sessions, finished, answers = collector.sessions.counts()
        click.echo(f"Stopped  {sessions} sessions, {finished} of them finished; {answers} answers")


@click.command()
@journal_option
@secret_option
@click.option("--codes", is_flag=True, help="Print the completion code of each finished session.")
def status(journal: Path, secret: Path | None, codes: bool) -> None:
    """Say how many sessions and answers a journal has, also while the collector runs.

    \b
    sweep human status
    sweep human status --codes
    """
    from collections import Counter

    from sweep.human.journal import FinishLine, ResponseLine, SessionLine
    from sweep.human.journal_file import read_journal
    from sweep.human.pseudonyms import completion_code, read_secret, secret_path

    header, entries = read_journal(journal)
    began = {entry.session_id: entry.list for entry in entries if isinstance(entry, SessionLine)}
    finished = [entry.session_id for entry in entries if isinstance(entry, FinishLine)]
    answers = Counter(began[entry.session_id] for entry in entries if isinstance(entry, ResponseLine))
    click.echo(
        f"Experiment {header.experiment_id}: {len(began)} sessions, {len(finished)} of them finished; "
        f"{answers.total()} answers"
    )
    for number in sorted(set(began.values())):
        ids = {session_id for session_id, of in began.items() if of == number}
        click.echo(
            f"  list {number}: {len(ids)} sessions, {len(ids.intersection(finished))} finished, {answers[number]} answers"
        )
    if codes:
        key = read_secret(secret or secret_path(header.experiment_id), create=False)
        for session_id in finished:
            click.echo(f"{session_id}  {completion_code(key, session_id)}")


@click.command()
@click.argument("session_id", metavar="SESSION")
@journal_option
def forget(session_id: str, journal: Path) -> None:
    """Remove every answer of a session from the journal for good, as its observer may ask.

    The collector must be stopped meanwhile. Afterwards import the journal again, so that the tables lose them too; copies
    of the journal are yours to delete.

    \b
    sweep human forget 0f8b6a52c1d94e37
    """
    from sweep.human.journal_file import JournalFile

    with JournalFile(journal) as opened:
        if session_id not in {entry.session_id for entry in opened.entries}:
            raise InputError(
                f"{journal}: has no session {session_id}; it is the number that the observer was shown"
            )
        removed = opened.forget(session_id)
    click.echo(f"Removed {removed} lines of session {session_id}")
