"""The way from this machine to a cluster's dashboard, by SSH, as Ray's own commands open it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sweep.errors import InputError, WorkError

PORT = 8265
"""Of the dashboard, there and here: Ray forwards a port to the same one."""
DASHBOARD = f"http://127.0.0.1:{PORT}"
"""Where a tunnel, or `ray attach -p 8265`, brings a cluster's dashboard to."""
OPEN_SECONDS = 120.0
"""How long the way may take to open."""
LINGER_SECONDS = 20.0
"""How long SSH may hold a port after the tunnel before has been closed: Ray lets its connections last 10 seconds."""
END_SECONDS = 10.0
"""How long Ray's command may take to end once it is asked to."""


@contextmanager
def tunnel(cluster_file: Path) -> Iterator[None]:
    """Bring the dashboard of the cluster that `ray up` made of a file to DASHBOARD, until the block ends.

    Raises InputError where there is no such file or the port is taken here, WorkError where Ray cannot reach the head.
    """
    if not cluster_file.is_file():
        raise InputError(f"--cluster {cluster_file}: no such file; name the file that you gave to `ray up`")
    until = time.monotonic() + LINGER_SECONDS
    while not _is_free():
        if time.monotonic() > until:
            raise InputError(
                f"--cluster {cluster_file}: port {PORT} of this machine is taken; if that is the way to this cluster, leave "
                "--cluster out, otherwise close it"
            )
        time.sleep(0.5)
    # A command that ends by itself once nobody holds its other end, should this process be killed.
    command = [str(Path(sys.executable).with_name("ray")), "exec", str(cluster_file), "-p", str(PORT), "cat"]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_for(process, cluster_file, said)
            yield
        finally:
            _end(process)


def _wait_for(process: "subprocess.Popen[bytes]", cluster_file: Path, said: IO[bytes]) -> None:
    until = time.monotonic() + OPEN_SECONDS
    while not _answers():
        if process.poll() is not None or time.monotonic() > until:
            said.seek(0)
            lines = [line for line in said.read().decode(errors="replace").splitlines() if line.strip()]
            raise WorkError(
                f"{cluster_file}: the head cannot be reached ({lines[-1].strip() if lines else 'no answer'}); "
                f"try `ray exec {cluster_file} uptime`"
            )
        time.sleep(0.2)


def _is_free() -> bool:
    """Whether nobody has the port here. Asked without a connection, as one would keep a connection that lingers alive."""
    with socket.socket() as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asking.bind(("127.0.0.1", PORT))
        except OSError:
            return False
    return True


def _answers() -> bool:
    try:
        with socket.create_connection(("127.0.0.1", PORT), timeout=1):
            return True
    except OSError:
        return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End Ray's command and the SSH that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin:
        with suppress(OSError):
            process.stdin.close()
