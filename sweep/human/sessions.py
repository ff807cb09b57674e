"""What a collector knows: who has which list, and which trials are answered. The journal is written first, then this."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sweep.human.journal import FinishLine, ResponseLine, SessionLine
from sweep.human.journal_file import Entry, JournalFile
from sweep.human.pseudonyms import completion_code, pseudonym

MOST_SESSIONS = 20_000
"""Sessions that a journal may have: a bound for whoever finds the address and fills the disk."""
ALIVE = timedelta(hours=2)
"""A session without an answer for longer is taken for given up, and its list for free."""


class Refused(Exception):
    """A request that names something impossible: `status` of HTTP, and one line that repeats none of its values."""

    def __init__(self, status: int, reason: str, **more: Any) -> None:
        super().__init__(reason)
        self.status = status
        self.content = {"error": reason, **more}


@dataclass
class Session:
    """A session as the journal has it."""

    begun: SessionLine
    answered: set[str] = field(default_factory=set)
    """Ids of the trials that were answered."""
    seen: datetime | None = None
    """When something of it was last received."""
    finished: bool = False


@dataclass(frozen=True)
class ListedTrial:
    """What an answer to a trial has to agree with."""

    position: int
    left_is: str


class Sessions:
    """The sessions of one experiment. Every method may be called from any thread."""

    def __init__(
        self,
        journal: JournalFile,
        experiment: Mapping[str, Any],
        secret: bytes,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take up what the journal has. `experiment` is what the page has of it (`pages.experiment_of`)."""
        self._journal = journal
        self._experiment_id: str = experiment["experiment_id"]
        self._lists = [
            {trial["trial_id"]: ListedTrial(trial["position"], trial["left_is"]) for trial in trials}
            for trials in experiment["lists"]
        ]
        self._secret = secret
        self._now = now
        self._lock = threading.Lock()
        self._by_id: dict[str, Session] = {}
        self._by_subject: dict[str, str] = {}
        for entry in journal.entries:
            self._take(entry)

    def begin(
        self,
        experiment_id: str,
        session_id: str,
        observer: str | None,
        consented: datetime,
        started: datetime,
    ) -> dict[str, Any]:
        """Begin a session, or go on with the one that this observer has; returns what the page needs to know of it.

        Raises Refused where the page is of another experiment, or there are too many sessions.
        """
        if experiment_id != self._experiment_id:
            raise Refused(409, "experiment_id: is of another experiment; load the page again")
        # Without an id, a session is an observer.
        subject_id = pseudonym(self._secret, experiment_id, observer or f"session:{session_id}")
        with self._lock:
            known = session_id if session_id in self._by_id else self._by_subject.get(subject_id)
            if known is None:
                if len(self._by_id) >= MOST_SESSIONS:
                    raise Refused(503, "the journal has as many sessions as it may have")
                self._store(
                    SessionLine(
                        kind="session",
                        session_id=session_id,
                        subject_id=subject_id,
                        list=self._next_list(),
                        consented=consented,
                        started=started,
                    )
                )
                known = session_id
            self._by_id[known].seen = self._now()
            return self._described(self._by_id[known])

    def answer(self, responses: Sequence[ResponseLine]) -> int:
        """Store answers, the first to each trial only; returns how many are new.

        Raises Refused where one belongs to no trial of its session: then none of them is stored.
        """
        received = self._now()
        with self._lock:
            new: dict[tuple[str, str], ResponseLine] = {}
            for index, response in enumerate(responses):
                session = self._session(response.session_id, f"responses.{index}.session_id")
                self._check(session, response, f"responses.{index}")
                key = (response.session_id, response.trial_id)
                if response.trial_id not in session.answered and key not in new:
                    new[key] = response.model_copy(update={"received": received})
            self._store(*new.values())
            for response in responses:
                self._by_id[response.session_id].seen = received
            return len(new)

    def finish(self, session_id: str, finished: datetime) -> str:
        """Note that a session is complete; returns its code. Raises Refused where answers are missing."""
        with self._lock:
            session = self._session(session_id, "session_id")
            missing = len(self._lists[session.begun.list - 1]) - len(session.answered)
            if missing:
                raise Refused(409, "the session lacks answers", missing=missing)
            if not session.finished:
                self._store(FinishLine(kind="finish", session_id=session_id, finished=finished))
            return completion_code(self._secret, session_id)

    def counts(self) -> tuple[int, int, int]:
        """Sessions, finished ones, and answers."""
        with self._lock:
            sessions = self._by_id.values()
            return (
                len(sessions),
                sum(session.finished for session in sessions),
                sum(len(session.answered) for session in sessions),
            )

    def _store(self, *entries: Entry) -> None:
        if entries:
            self._journal.append(entries)
        for entry in entries:
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        if isinstance(entry, SessionLine):
            self._by_id[entry.session_id] = Session(entry, seen=entry.started)
            self._by_subject[entry.subject_id] = entry.session_id
        elif isinstance(entry, ResponseLine):
            session = self._by_id[entry.session_id]
            session.answered.add(entry.trial_id)
            session.seen = entry.received
        else:
            self._by_id[entry.session_id].finished = True

    def _next_list(self) -> int:
        """The list that the fewest observers finished or work on; of several, the one that fewest ever began."""
        since = self._now() - ALIVE
        began: Counter[int] = Counter()
        counted: Counter[int] = Counter()
        for session in self._by_id.values():
            began[session.begun.list] += 1
            counted[session.begun.list] += session.finished or (
                session.seen is not None and session.seen > since
            )
        return min(
            range(1, len(self._lists) + 1), key=lambda number: (counted[number], began[number], number)
        )

    def _session(self, session_id: str, place: str) -> Session:
        if session_id not in self._by_id:
            raise Refused(404, f"{place}: there is no such session")
        return self._by_id[session_id]

    def _check(self, session: Session, response: ResponseLine, place: str) -> None:
        trial = self._lists[session.begun.list - 1].get(response.trial_id)
        if trial is None:
            raise Refused(422, f"{place}.trial_id: is not in the session's list")
        if response.position != trial.position:
            raise Refused(422, f"{place}.position: is not that of the trial")
        if (response.side == "left") != (response.choice == trial.left_is):
            raise Refused(422, f"{place}.choice: was not on the side that was chosen")

    def _described(self, session: Session) -> dict[str, Any]:
        begun = session.begun
        code = {"code": completion_code(self._secret, begun.session_id)} if session.finished else {}
        return {
            **begun.model_dump(mode="json", include={"session_id", "subject_id", "list", "started"}),
            "answered": sorted(session.answered),
            "finished": session.finished,
            **code,
        }
