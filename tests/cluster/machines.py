"""Machines that SSH and Ray take for real ones, made of this one by namespaces; for tests of `ray up`."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_suffix(".sh")
HEAD, WORKER, LAPTOP = "10.77.0.1", "10.77.0.2", "10.77.0.254"
PROGRAMS = ("ip", "ss", "sshd", "ssh", "ssh-keygen", "rsync", "curl", "unshare", "nsenter")
NAMESPACES = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
NEEDS_DASHBOARD = pytest.mark.skipif(
    importlib.util.find_spec("aiohttp_cors") is None,
    reason="needs Ray's dashboard: make setup-cluster",
)
SSHD = """\
HostKey {folder}/host_key
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
MaxStartups 100
"""


@dataclass(frozen=True)
class Machines:
    """A laptop, which has the checkout, and two machines on its network; their processes see the same files."""

    folder: Path
    process: int
    """The first process of the laptop, which all others end with."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment of the laptop's commands, besides what every laptop has."""

    def home(self, machine: str) -> Path:
        """Home folder of the only user on a machine: laptop, head, worker."""
        return self.folder / machine / "home"

    @property
    def key(self) -> Path:
        """The key that opens the machines."""
        return self.home("laptop") / ".ssh" / "relevance-sweep"

    def laptop(self, *command: str, cwd: Path, timeout: float = 1100) -> subprocess.CompletedProcess[str]:
        """Run a command on the laptop, in this environment and a home of its own."""
        return subprocess.run(
            self._entering(command, cwd),
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    @contextmanager
    def start(self, *command: str, cwd: Path) -> Iterator[None]:
        """Let a command run on the laptop until the block ends, in a terminal of its own that is closed then."""
        process = subprocess.Popen(
            self._entering(command, cwd),
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()

    @contextmanager
    def cut(self, machine: str) -> Iterator[None]:
        """Cut a machine's link until the block ends."""

        def set_link(state: str) -> None:
            done = self.laptop("ip", "link", "set", machine, state, cwd=self.folder)
            assert done.returncode == 0, done.stderr

        set_link("down")
        try:
            yield
        finally:
            set_link("up")

    def _entering(self, command: Sequence[str], cwd: Path) -> list[str]:
        """The command, to be run on the laptop."""
        return ["nsenter", f"--target={self.process}", "--mount", "--net", "--pid", f"--wd={cwd}", *command]

    @property
    def environment(self) -> dict[str, str]:
        """What differs on the laptop from this process's environment."""
        binaries = Path(sys.executable).parent
        return {
            "HOME": str(self.home("laptop")),
            "PATH": f"{self.home('laptop')}/bin:{binaries}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "TMPDIR": str(self.folder / "laptop" / "tmp"),  # `ray up` keeps there what it has looked up
            **self.variables,
        }

    def on(self, address: str, command: str) -> str:
        """What a command prints that is run by SSH."""
        ssh = str(shutil.which("ssh"))
        done = self.laptop(ssh, "-i", str(self.key), f"root@{address}", command, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout


def skip_without_namespaces() -> None:
    """Skip the test where this machine cannot be divided."""
    if os.geteuid() != 0:
        pytest.skip("needs to be root, to make network namespaces")
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install openssh-server rsync iproute2 curl")
    tried = subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs leave to make namespaces: {tried.stderr.strip()}")


@contextmanager
def machines(folder: Path, variables: dict[str, str] | None = None) -> Iterator[Machines]:
    """Make the machines in `folder`; `variables` are added to the laptop's environment."""
    _furnish(folder)
    Path("/tmp/ray").mkdir(exist_ok=True)
    log = folder / "log"
    with log.open("w") as output:
        command = ["unshare", *NAMESPACES, "sh", str(SCRIPT), str(folder)]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 30
        while not (folder / "ready").exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        [first] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Machines(folder, int(first), variables or {})
    finally:
        process.kill()
        process.wait()


def _furnish(folder: Path) -> None:
    """Homes, keys, and what SSH needs to let the laptop in."""
    accounts = Path("/etc/passwd").read_text().splitlines()
    for machine in ("laptop", "head", "worker"):
        home = folder / machine / "home"
        (home / ".ssh").mkdir(parents=True)
        (folder / machine / "ray").mkdir()
        (folder / machine / "tmp").mkdir()
        root = f"root:x:0:0:root:{home}:/bin/bash"
        others = [line for line in accounts if not line.startswith("root:")]
        (folder / machine / "passwd").write_text("\n".join([root, *others, ""]))
    key = folder / "laptop" / "home" / ".ssh" / "relevance-sweep"
    for path in (key, folder / "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    host = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (key.parent / "known_hosts").write_text(f"{HEAD},{WORKER} {host}\n")
    for machine in ("head", "worker"):
        public = key.with_suffix(".pub").read_text()
        (folder / machine / "home" / ".ssh" / "authorized_keys").write_text(public)
    (folder / "sshd_config").write_text(SSHD.format(folder=folder))
