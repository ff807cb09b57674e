"""Runs the MLflow server of a cluster's head, and keeps its records where they outlive the head.

    python infra/mlflow_server.py start --keep s3://BUCKET/mlflow
    python infra/mlflow_server.py stop

`start` returns once the server answers. A process stays behind that restarts the server when it ends or does not
answer, and copies its database to `--keep` whenever it has changed: every five minutes, and when it is told to end.
A head without a database begins with that copy. Artifacts lie under `--keep`, too. Without `--keep` all stays in
`~/mlflow`. `stop` ends both and makes the last copy; its exit code says whether that was possible.

The server listens on the loopback address only: the driver, which alone writes to it, runs on the same machine.
"""

import argparse
import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sweep.errors import InputError, StoreError, SweepError, WorkError
from sweep.storage.files import Files

FOLDER = Path.home() / "mlflow"
"""The database, the log, and the artifacts where no `--keep` is given."""
DATABASE = "mlflow.db"
EVERY = 300.0
"""Seconds between two copies of a database that changes."""
LOOK = 5.0
"""Seconds between two looks at the server, and what it may take to answer one."""
MISSES = 3
"""Looks in a row that a server may leave unanswered."""
START = 180.0
"""Seconds that a server may take until it answers for the first time; about 15 as a rule."""
END = 20.0
"""Seconds that a server may take to end once it is told to."""


@dataclass(frozen=True)
class Keeper:
    """The process that stays behind."""

    process: int
    keep: str | None
    """Address under which it keeps the records."""
    server: int | None = None
    """Process group of its server."""


def main() -> int:
    """Do what the command line says; errors are a line each. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "action", choices=("start", "stop", "stay"), help="`stay` is what `start` leaves behind"
    )
    parser.add_argument("--keep", metavar="ADDRESS", help="s3:// or gs:// address, or a folder")
    parser.add_argument("--every", type=float, default=EVERY, metavar="SECONDS", help="between two copies")
    parser.add_argument("--port", type=int, default=5000)
    given = parser.parse_args()
    try:
        if given.keep and "//BUCKET" in given.keep:
            raise InputError(
                f"--keep {given.keep}: write the name of your bucket in place of BUCKET, in the cluster file"
            )
        FOLDER.mkdir(exist_ok=True)
        if given.action == "start":
            start(given.keep, given.every, given.port)
        elif given.action == "stop":
            stop()
        else:
            stay(given.keep, given.every, given.port)
    except SweepError as error:
        print(f"mlflow_server: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def start(keep: str | None, every: float, port: int) -> None:
    """Start the server unless it runs; return once it answers. Raises WorkError, with the end of its log, if it fails."""
    if (former := running()) and former.keep != keep:
        stop()
        former = None
    log = FOLDER / "server.log"
    if not former:
        command = [sys.executable, __file__, "stay", "--every", str(every), "--port", str(port)]
        with log.open("w") as output:
            left = subprocess.Popen(
                command + (["--keep", keep] if keep else []),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=FOLDER,
            )
    until = time.monotonic() + START
    while not ((now := running()) and now.server and answers(port)):
        if (not former and left.poll() is not None and not running()) or time.monotonic() > until:
            raise WorkError(
                "the MLflow server does not start:\n" + "\n".join(log.read_text().splitlines()[-20:])
            )
        time.sleep(0.5)


def stop() -> None:
    """End the server and what stays behind, then copy the database. Raises StoreError where that is not possible."""
    keeper = running() or written()
    if running():
        end_group(keeper.process, 3 * END)  # it ends its server and makes a copy first
    if keeper.server:
        end_group(keeper.server)
    if keeper.keep and (FOLDER / DATABASE).exists():
        copy_out(Files(keeper.keep))


def stay(keep: str | None, every: float, port: int) -> None:
    """Keep the server alive and its database copied, until SIGTERM. Raises StoreError where the copy is out of reach."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    lock = (FOLDER / "lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another one was faster
    if left := written().server:  # of one that was killed
        end_group(left)
    write(Keeper(os.getpid(), keep))
    if answers(port):
        raise WorkError(f"another server answers on port {port}; end it, then start this one")
    files = Files(keep) if keep else None
    if files and not (FOLDER / DATABASE).exists():
        copy_in(files)
    server, due = Server(keep, port), time.monotonic() + every
    copied: list[tuple[int, int]] | None = None
    while not ended.wait(LOOK):
        server.look()
        if files and time.monotonic() > due:
            due = time.monotonic() + every
            if (now := state()) != copied:
                try:
                    copy_out(files)
                    copied = now
                except WorkError as error:  # the next turn tries again
                    say(str(error))
    end_group(server.process.pid)
    if files:
        copy_out(files)


class Server:
    """The server, started again where it ends or stops answering."""

    def __init__(self, keep: str | None, port: int) -> None:
        self._keep, self._port = keep, port
        self._begin()

    def look(self) -> None:
        """Ask whether it answers, and begin again where it has not for too long."""
        if answers(self._port):
            self._healthy, self._misses = True, 0
        else:
            self._misses += 1
        late = not self._healthy and time.monotonic() - self._begun > START
        if self.process.poll() is not None or late or (self._healthy and self._misses >= MISSES):
            say("the MLflow server has ended or does not answer; it is started again")
            end_group(self.process.pid)
            self._begin()

    def _begin(self) -> None:
        command = [
            str(Path(sys.executable).with_name("mlflow")),
            "server",
            "--host=127.0.0.1",
            f"--port={self._port}",
            "--workers=1",
            "--allowed-hosts=localhost:*,127.0.0.1:*",
            f"--backend-store-uri=sqlite:///{FOLDER}/{DATABASE}",
            f"--artifacts-destination={self._keep or FOLDER}/artifacts",
        ]
        self.process = subprocess.Popen(
            command,
            # Without the processes that judge answers of language models.
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdin=subprocess.DEVNULL,
            # A group of its own, because killing the server alone would leave its child with the port.
            start_new_session=True,
            cwd=FOLDER,
        )
        self._begun, self._healthy, self._misses = time.monotonic(), False, 0
        write(Keeper(os.getpid(), self._keep, self.process.pid))


def running() -> Keeper | None:
    """The process that stays behind, if there is one."""
    while True:
        with (FOLDER / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return None
            except BlockingIOError:
                if is_alive((keeper := written()).process):
                    return keeper
        time.sleep(0.1)  # it has only begun


def written() -> Keeper:
    """What the last one has written down."""
    try:
        return Keeper(**json.loads((FOLDER / "keeper.json").read_text()))
    except FileNotFoundError:
        return Keeper(0, None)


def write(keeper: Keeper) -> None:
    """Write it down, whole or not at all."""
    temporary = FOLDER / "keeper.new"
    temporary.write_text(json.dumps(asdict(keeper)))
    temporary.replace(FOLDER / "keeper.json")


def copy_out(files: Files) -> None:
    """Copy the database as it stands between two writes. Raises StoreError; WorkError where it is damaged."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path = Path(folder, DATABASE)
        with closing(sqlite3.connect(FOLDER / DATABASE)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        check(path)
        files.write(DATABASE, path.read_bytes())


def copy_in(files: Files) -> None:
    """Begin with the copy, if there is one.

    Raises StoreError where that cannot be found out, or nothing can be written there: an empty database would take the
    copy's place later, and nobody would see that no copies are made.
    """
    try:
        content = files.read(DATABASE)
    except StoreError:
        raise
    except WorkError:
        files.write(
            "README.txt", b"MLflow's records of a cluster: a copy of its database, and its artifacts.\n"
        )
        return
    temporary = FOLDER / "fetched.db"
    temporary.write_bytes(content)
    check(temporary)
    temporary.replace(FOLDER / DATABASE)


def check(path: Path) -> None:
    """Raise WorkError where a file is no whole database."""
    try:
        with closing(sqlite3.connect(path)) as database:
            found = database.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise WorkError(f"{path.name}: the database is damaged: {found}")


def state() -> list[tuple[int, int]]:
    """What changes whenever the database does."""
    found = []
    for name in (DATABASE, f"{DATABASE}-wal"):
        with suppress(FileNotFoundError):
            status = (FOLDER / name).stat()
            found.append((status.st_mtime_ns, status.st_size))
    return found


def answers(port: int) -> bool:
    """Whether a server answers here."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(OSError), opener.open(f"http://127.0.0.1:{port}/health", timeout=LOOK) as answer:
        return bool(answer.status == 200)
    return False


def is_alive(process: int) -> bool:
    """Whether there is a process of this number."""
    return process > 0 and Path(f"/proc/{process}").exists()


def end_group(group: int, patience: float = END) -> None:
    """End the processes of a group of ours: by request, then by force. Those that are gone are no error."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in members(group):
            with suppress(ProcessLookupError):
                os.kill(process, number)
        until = time.monotonic() + patience
        while members(group) and time.monotonic() < until:
            time.sleep(0.1)


def members(group: int) -> list[int]:
    """The processes of a group that run MLflow; after a restart of the machine its number may be another's."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getpgid(int(folder.name)) == group and b"mlflow" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def say(text: str) -> None:
    """Add a line to the log, which standard error is."""
    print(f"{time.strftime('%F %T')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
