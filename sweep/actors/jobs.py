"""Ray's job server: runs that go on at a cluster whatever becomes of the terminal that asked for them."""

import asyncio
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from ray.dashboard.modules import dashboard_sdk
from ray.dashboard.modules.job import sdk
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from sweep.errors import InputError, WorkError

START_SECONDS = 60.0
"""How long a cluster may take to be ready for jobs after its dashboard has begun to answer."""
END_SECONDS = 20.0
"""How long after the end of its log a job may still count as running."""


@dataclass(frozen=True)
class Job:
    """A run on a cluster."""

    id: str
    status: str
    message: str

    @property
    def alive(self) -> bool:
        """Whether it goes on."""
        return not JobStatus(self.status).is_terminal()


class Jobs:
    """The jobs of the cluster whose dashboard is at `address`."""

    def __init__(self, address: str) -> None:
        """Reach the job server. Raises InputError where there is none, or where it lets nobody in without a token."""
        self.address = address
        place = f"--address {address}"
        if not re.fullmatch(r"https?://[^\s/]+/*", address):
            raise InputError(
                f"{place}: jobs are submitted to Ray's dashboard; write http://HOST:8265, "
                "or use `sweep run` on a node of the cluster"
            )
        for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
            os.environ.pop(name, None)  # Ray would take these for what was named outright
        for logger in (logging.getLogger("ray"), dashboard_sdk.logger, sdk.logger):
            logger.setLevel(logging.ERROR)  # they tell of everything that is sent
        try:
            self._client = JobSubmissionClient(address)
        except AuthenticationError:
            raise InputError(
                f"{place}: the cluster wants its token; set RAY_AUTH_MODE=token, and put the cluster's token "
                "into ~/.ray/auth_token (on its head: ray get-auth-token)"
            ) from None
        except ConnectionError:
            raise InputError(
                f"{place}: nothing answers there; open the way with `ray attach CLUSTER.yaml -p 8265` in another "
                "terminal, or correct the address"
            ) from None
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"{place}: what answers there is not Ray's dashboard ({_line(error)}); its port is 8265 as a rule"
            ) from None

    def of(self, name: str) -> list[Job]:
        """The jobs with this name, the oldest first."""
        one = re.compile(rf"{re.escape(name)}-\d+")
        with self._told():
            found = [_job(job) for job in self._client.list_jobs() if one.fullmatch(job.submission_id or "")]
        return sorted(found, key=_number)

    def submit(self, name: str, commands: Sequence[Sequence[str]], folder: Path) -> tuple[Job, bool]:
        """Send a folder and run commands in it, each if that before it succeeds, unless a job of this name goes on.

        Returns that job, and whether it is a new one. Raises WorkError where the cluster refuses it.
        """
        former = self.of(name)
        if former and former[-1].alive:
            return former[-1], False
        number = _number(former[-1]) + 1 if former else 1
        until = time.monotonic() + START_SECONDS
        with self._told():
            while True:
                try:
                    self._client.submit_job(
                        entrypoint=" && ".join(map(shlex.join, commands)),
                        submission_id=f"{name}-{number}",
                        runtime_env={"working_dir": str(folder)},
                    )
                    break
                except RuntimeError as error:
                    # Ray takes an id once, so of two that ask at the same time one is refused.
                    if len(self.of(name)) > len(former):
                        return self.of(name)[-1], False
                    # The dashboard of a cluster that has just begun answers before it can start jobs.
                    if "No available agent" not in str(error) or time.monotonic() > until:
                        raise
                time.sleep(1)
        return self.of(name)[-1], True

    def follow(self, job: Job, say: Callable[[str], None]) -> Job:
        """Pass on what a job prints, from its beginning to its end; returns the job as it ended.

        Raises WorkError where the connection is lost.
        """

        async def tail() -> None:
            async for text in self._client.tail_job_logs(job.id):
                say(text)

        with self._told():
            asyncio.run(tail())
            until = time.monotonic() + END_SECONDS
            while (now := self._job(job.id)).alive and time.monotonic() < until:
                time.sleep(0.2)
        if now.alive:
            raise WorkError(f"{self.address}: the log of {job.id} broke off; the job goes on")
        return now

    def _job(self, job_id: str) -> Job:
        return _job(self._client.get_job_info(job_id))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the job server, or the way to it, refuses into one line."""
        try:
            yield
        except (OSError, aiohttp.ClientError):
            raise WorkError(f"{self.address}: does not answer any more") from None
        except (RuntimeError, ValueError) as error:
            raise WorkError(f"{self.address}: {_line(error)}") from None


def _job(details: Any) -> Job:
    """What we need of what Ray tells."""
    # The message repeats the log's end, which whoever follows the job has seen.
    message = (details.message or "").partition(", last available logs")[0]
    return Job(details.submission_id, str(details.status), " ".join(message.split()))


def _number(job: Job) -> int:
    """Which of the jobs with its name it is."""
    return int(job.id.rpartition("-")[2])


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
