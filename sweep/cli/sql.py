"""The subcommand that opens a DuckDB shell on a study's tables."""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from sweep.cli.options import results_of, results_option, stored_study_argument
from sweep.errors import SweepError, WorkError

VIEWS = "images, models, epochs, predictions, relevance, similarity, masked, accuracy, conditions, relations"
PROMPT, GOES_ON = "sweep> ", "  ...> "
END = (".quit", ".exit", "quit", "exit")


@click.command()
@stored_study_argument
@results_option
def sql(study: str, results: str) -> None:
    """Open a DuckDB shell with a study's tables as views.

    The stand-alone shell `duckdb` opens if it is installed, else a small prompt of our own. The database is in memory:
    nothing that you do changes the results. `.read auc` in our prompt, or `.read PATH/auc.sql` in DuckDB's shell, adds
    what an SQL file of the project leaves.

    \b
    sweep sql studies/demo.yaml
    echo "SELECT count(*) FROM masked" | sweep sql studies/demo.yaml
    """
    from sweep.analysis.queries import folder

    place = results_of(study, results)
    shell = None if "://" in place else _shell()
    if sys.stdin.isatty():
        click.echo(f"{place}\nviews: {VIEWS}\nSQL files: {folder()}", err=True)
    if shell is None:
        _prompt(place)
        return
    from sweep.analysis.sql import start_script

    with tempfile.TemporaryDirectory(prefix="sweep-") as temporary:
        start = Path(temporary, "start.sql")
        start.write_text(start_script(place), encoding="utf-8")
        # Ctrl-C is for the shell: it ends a statement there.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            done = subprocess.run([shell, "-cmd", f".read '{start}'"], check=False)
        finally:
            signal.signal(signal.SIGINT, before)
    if done.returncode:
        raise WorkError(f"{shell} ended with exit code {done.returncode}")


def _shell() -> str | None:
    """The stand-alone shell: on the PATH, or beside this Python, where pip puts it."""
    return shutil.which("duckdb") or shutil.which("duckdb", path=str(Path(sys.executable).parent))


def _prompt(results: str) -> None:
    """Read statements from standard input, run each on the study's tables, and print what it answers."""
    from sweep.analysis.queries import execute, list_queries, opened, text_of, told
    from sweep.terminal.tables import print_table

    known = {query.name for query in list_queries()}
    failed = False
    with told("sweep sql"), opened(results) as session:
        for text in _statements():
            name = text.removeprefix(".read ").strip()
            try:
                if text.startswith(".read ") and name not in known:
                    raise WorkError(f"no SQL file is called {name!r}; there are: {', '.join(sorted(known))}")
                with told("sweep sql"):
                    print_table(execute(session, text_of(name) if text.startswith(".read ") else text))
            except (SweepError, KeyboardInterrupt) as error:
                failed = True
                click.echo(str(error) or "stopped", err=True)
    if failed and not sys.stdin.isatty():
        raise WorkError("some statements failed")


def _statements() -> Iterator[str]:
    """Statements as they are typed, each up to its semicolon; a line that opens with a dot stands for itself."""
    shown = sys.stdin.isatty()
    if shown:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - arrow keys and history
    lines: list[str] = []
    while True:
        try:
            line = input((GOES_ON if lines else PROMPT) if shown else "")
        except EOFError:
            break
        except KeyboardInterrupt:
            lines.clear()
            click.echo(err=True)
            continue
        if not lines and line.strip().lower() in END:
            return
        lines.append(line)
        if line.rstrip().endswith(";") or (len(lines) == 1 and line.startswith(".")):
            yield "\n".join(lines)
            lines.clear()
    if "".join(lines).strip():
        yield "\n".join(lines)
