"""The collector as a process: every answer once, whatever is killed, malformed or full."""

import json
import resource
import signal
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.errors import InputError
from sweep.human.journal import ResponseLine, parsed
from sweep.human.journal_file import JournalFile, read_journal
from sweep.human.limits import MOST_BYTES
from sweep.human.pages import experiment_of
from sweep.human.sessions import ALIVE, Sessions
from sweep.keys import generator
from tests.human.experiment import (
    EXPERIMENT,
    CollectorProcess,
    command,
    files,
    response,
    running_collector,
    session_request,
    write_page,
)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CollectorProcess]:
    with running_collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


def trials_of(number: int, **sizes: int) -> list[dict[str, Any]]:
    trials: list[dict[str, Any]] = experiment_of(files(**sizes))["lists"][number - 1]
    return trials


def post(collector: CollectorProcess, path: str, content: dict[str, Any]) -> requests.Response:
    return requests.post(f"{collector.address}api/{path}", json=content, timeout=30)


def utc_now() -> str:
    return datetime.now(UTC).isoformat()


def begin(collector: CollectorProcess, session_id: str, observer: str | None = None) -> dict[str, Any]:
    done = post(collector, "session", session_request(session_id, observer))
    assert done.status_code == 200, done.text
    begun: dict[str, Any] = done.json()
    return begun


def test_a_session_from_its_beginning_to_its_code(collector: CollectorProcess) -> None:
    begun = begin(collector, "whole", "prolific:w1")
    trials = trials_of(begun["list"])
    assert begun["answered"] == []
    assert post(
        collector, "finish", {"session_id": "whole", "finished": session_request("x")["started"]}
    ).json() == {
        "error": "the session lacks answers",
        "missing": len(trials),
    }
    pretended = {"received": "1999-01-01T00:00:00Z"}
    answers = [response("whole", trial) | pretended for trial in trials]
    assert post(collector, "responses", {"responses": answers}).json() == {"new": len(trials)}
    # The first answer counts: what comes again is acknowledged and not stored.
    again = response("whole", trials[0], side="right")
    assert post(collector, "responses", {"responses": [again, again]}).json() == {"new": 0}
    request = {"session_id": "whole", "finished": session_request("x")["started"]}
    codes = {post(collector, "finish", request).json()["code"] for _ in range(2)}
    assert len(codes) == 1
    # The same observer elsewhere: the same session, and no second one.
    returned = begin(collector, "other-browser", "prolific:w1")
    assert (returned["session_id"], returned["finished"], {returned["code"]}) == ("whole", True, codes)
    lines = [line for line in collector.lines() if line["session_id"] == "whole"]
    assert Counter(line["kind"] for line in lines) == {"session": 1, "response": len(trials), "finish": 1}
    assert all(line["received"] > "2000" for line in lines if line["kind"] == "response")
    assert stat.S_IMODE(collector.journal.stat().st_mode) == 0o600


def test_pseudonyms_depend_on_a_secret_that_only_its_owner_can_read(collector: CollectorProcess) -> None:
    secret = collector.journal.with_suffix(".secret")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    begin(collector, "pseudonym", "prolific:worker-1234")
    journal = collector.journal.read_text()
    assert "worker-1234" not in journal
    assert secret.read_text().strip() not in journal


def test_what_names_something_impossible_is_refused_whole(collector: CollectorProcess) -> None:
    begun = begin(collector, "impossible")
    trials = trials_of(begun["list"])
    good = response("impossible", trials[0])
    before = collector.journal.read_bytes()
    for change, error in (
        ({"session_id": "nobody"}, "responses.1.session_id: there is no such session"),
        ({"trial_id": "nothing"}, "responses.1.trial_id: is not in the session's list"),
        ({"position": 2}, "responses.1.position: is not that of the trial"),
        ({"side": "right"}, "responses.1.choice: was not on the side that was chosen"),
    ):
        done = post(collector, "responses", {"responses": [good, good | change]})
        assert 400 <= done.status_code < 500
        assert done.json() == {"error": error}
        assert collector.journal.read_bytes() == before
    stale = post(collector, "session", session_request("stale") | {"experiment_id": "another"})
    assert stale.status_code == 409


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=20)
    | st.sampled_from(["session", "response", "left", "a", "2026-01-31T12:00:00Z", "1e400"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def nearly_right(draw: st.DrawFn) -> tuple[str, bytes]:
    """A request of the page with one thing in it changed, left out or added, or something else altogether."""
    path = draw(st.sampled_from(["session", "responses", "finish", "nowhere"]))
    request: dict[str, Any] = {
        "session": session_request("fuzz"),
        "responses": {"responses": [response("fuzz", trials_of(1)[0])]},
        "finish": {"session_id": "fuzz", "finished": "2026-01-31T12:00:00Z"},
        "nowhere": {},
    }[path]
    kind = draw(st.sampled_from(["field", "json", "bytes", "number"]))
    if kind == "bytes":
        return path, draw(st.binary(max_size=200))
    if kind == "json":
        return path, json.dumps(draw(json_values)).encode()
    inside = request["responses"][0] if path == "responses" else request
    name = draw(st.sampled_from(sorted(inside) or ["a"]) | st.text(min_size=1, max_size=8))
    inside[name] = draw(json_values)
    text = json.dumps(request)
    if kind == "number":
        text = text.replace(
            "612.5", draw(st.sampled_from(["1e400", "NaN", "-Infinity", "1e999999", "-1", "[" * 5000]))
        )
    return path, text.encode()


SENT = requests.Session()


def check_refused(collector: CollectorProcess, path: str, body: bytes, content_type: str) -> None:
    """The answer to a malformed request is a 4xx in one line, and the journal stays as it is."""
    before = collector.journal.read_bytes()
    headers = {"Content-Type": content_type} if content_type else {}
    done = SENT.post(f"{collector.address}api/{path}", data=body, headers=headers, timeout=30)
    after = collector.journal.read_bytes()
    if done.status_code == 200:  # a change that leaves the request a good one, as another observer
        assert path == "session"
        parsed(after.splitlines()[-1])
        return
    assert 400 <= done.status_code < 500, (done.status_code, done.text)
    assert len(done.text.splitlines()) == 1
    assert set(done.json()) <= {"error", "missing"}
    assert len(done.text) < 200
    assert after == before


content_types = st.sampled_from(["application/json"] * 4 + ["text/plain", ""])
malformed = given(sent=nearly_right(), content_type=content_types)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(unhurried, max_examples=100)
@malformed
def test_a_malformed_request_is_a_4xx_in_one_line_and_changes_nothing(
    collector: CollectorProcess, sent: tuple[str, bytes], content_type: str
) -> None:
    check_refused(collector, *sent, content_type)


@pytest.mark.chaos
@settings(unhurried, max_examples=1000)
@malformed
def test_a_thousand_malformed_requests(
    collector: CollectorProcess, sent: tuple[str, bytes], content_type: str
) -> None:
    check_refused(collector, *sent, content_type)


def test_no_value_that_was_sent_comes_back(collector: CollectorProcess) -> None:
    word = "Zq7secret"
    request = session_request("echo")
    for body in (
        json.dumps(request | {word: 1}),
        json.dumps(request | {"session_id": word + "!"}),
        json.dumps(request | {"observer": {word: word}}),
        json.dumps(request | {"observer": "\ud800" + word}),
        json.dumps({"responses": [response("echo", trials_of(1)[0]) | {word: word}]}),
        f'{{"session_id": "{word}',
        word,
    ):
        for path in ("session", "responses", "finish", word):
            done = requests.post(
                f"{collector.address}api/{path}",
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=30,
            )
            assert 400 <= done.status_code < 500
            assert word not in done.text
            assert word not in str(done.headers)


def raw(port: int, request: bytes, seconds: float = 30) -> bytes:
    """What the server says to these bytes before it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(request)
        answer = b""
        with suppress(ConnectionResetError):  # it need not read all that was sent before it closes
            while part := connection.recv(65536):
                answer += part
        return answer


def test_a_body_that_is_too_long_is_refused_whether_or_not_it_says_so(collector: CollectorProcess) -> None:
    before = collector.journal.read_bytes()
    head = b"POST /api/responses HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    said = raw(collector.port, head + b"Content-Length: %d\r\n\r\n" % (MOST_BYTES + 1))
    assert said.startswith(b"HTTP/1.1 413")
    chunks = b"%x\r\n%b\r\n1\r\n \r\n" % (MOST_BYTES, b" " * MOST_BYTES)
    unsaid = raw(collector.port, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert unsaid.startswith(b"HTTP/1.1 413")
    assert collector.journal.read_bytes() == before


def test_the_page_is_served_and_nothing_beside_it(collector: CollectorProcess) -> None:
    for name, content in files().items():
        got = requests.get(collector.address + name, timeout=30)
        if name == "page.json":
            assert got.status_code == 404
        elif name == "exit.js":
            assert "collector" in got.text
        else:
            assert got.content == content
            assert got.headers["content-length"] == str(len(content))
    for name in (
        "../journal.jsonl",
        "..%2fjournal.jsonl",
        "%2e%2e/journal.jsonl",
        "docs",
        "openapi.json",
        "api/session",
    ):
        got = requests.get(collector.address + name, timeout=30)
        assert got.status_code in (404, 405)
        assert len(got.text.splitlines()) == 1
    headers = requests.get(collector.address, timeout=30).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "server" not in headers


def test_another_site_cannot_post(collector: CollectorProcess) -> None:
    before = collector.journal.read_bytes()
    body = json.dumps(session_request("elsewhere"))
    for content_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        None,
    ):  # those that a form may have
        headers = {"Content-Type": content_type} if content_type else {}
        done = requests.post(f"{collector.address}api/session", data=body, headers=headers, timeout=30)
        assert 400 <= done.status_code < 500
    asked = requests.options(
        f"{collector.address}api/session", headers={"Origin": "https://x.example"}, timeout=30
    )
    assert "access-control-allow-origin" not in asked.headers
    assert collector.journal.read_bytes() == before


def test_lists_stay_balanced(collector: CollectorProcess) -> None:
    given_lists = Counter(begin(collector, f"balance-{index}")["list"] for index in range(20))
    counts = Counter(line["list"] for line in collector.of_kind("session"))
    assert abs(counts[1] - counts[2]) <= 1
    assert given_lists.total() == 20


@pytest.mark.parametrize(
    ("observers", "answers", "kills"),
    [(8, 20, [0.5]), pytest.param(50, 100, [0.3, 0.6], marks=pytest.mark.chaos)],
    ids=["few", "many"],
)
def test_observers_at_once_and_kills_lose_nothing_and_store_nothing_twice(
    tmp_path: Path, observers: int, answers: int, kills: list[float]
) -> None:
    sizes = {"practice": 0, "blocks": 4, "in_block": answers // 4}
    started = time.monotonic()
    collector = CollectorProcess(write_page(tmp_path, **sizes), tmp_path / "journal.jsonl")
    collector.start()
    lists = [trials_of(number, **sizes) for number in (1, 2)]
    acknowledged: list[tuple[str, str]] = []

    def insist(path: str, content: dict[str, Any], connection: requests.Session) -> dict[str, Any]:
        while True:
            try:
                done = connection.post(f"{collector.address}api/{path}", json=content, timeout=10)
                assert done.status_code == 200, done.text
                answer: dict[str, Any] = done.json()
                return answer
            except requests.RequestException:
                assert time.monotonic() - started < 300
                time.sleep(0.1)

    def observe(index: int) -> str:
        session_id, draws = f"observer-{index}", generator("observer", index)
        with requests.Session() as connection:
            begun = insist("session", session_request(session_id, f"w{index}", utc_now()), connection)
            trials = lists[begun["list"] - 1]
            while trials:
                some = trials[: draws.integers(1, 9)]
                trials = trials[len(some) :]
                insist(
                    "responses", {"responses": [response(session_id, trial) for trial in some]}, connection
                )
                acknowledged.extend((session_id, trial["trial_id"]) for trial in some)
            finish = {"session_id": session_id, "finished": session_request("x")["started"]}
            return str(insist("finish", finish, connection)["code"])

    def kill() -> None:
        for share in kills:
            while len(acknowledged) < share * observers * answers:
                time.sleep(0.01)
            collector.kill()
            collector.start()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with ThreadPoolExecutor(observers) as pool:
            codes = list(pool.map(observe, range(observers)))
        killer.join()
    finally:
        collector.kill()
    stored = Counter((line["session_id"], line["trial_id"]) for line in collector.of_kind("response"))
    assert set(acknowledged) == set(stored)
    assert len(stored) == observers * answers
    assert set(stored.values()) == {1}
    assert len(set(codes)) == observers
    assert len(collector.of_kind("finish")) == observers
    counts = Counter(line["list"] for line in collector.of_kind("session"))
    assert counts == {1: observers // 2, 2: observers // 2}


def test_a_full_disk_tears_no_line_and_the_answer_is_kept_by_the_page(tmp_path: Path) -> None:
    collector = CollectorProcess(write_page(tmp_path), tmp_path / "journal.jsonl")
    collector.start()
    begun = begin(collector, "full")
    trials = trials_of(begun["list"])
    assert collector.process
    room = collector.journal.stat().st_size + 700  # two answers, and a part of the third
    resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    told = [post(collector, "responses", {"responses": [response("full", trial)]}) for trial in trials]
    assert [done.status_code for done in told[:2]] == [200, 200]
    assert {done.status_code for done in told[2:]} == {503}
    assert {len(done.text.splitlines()) for done in told} == {1}
    assert collector.journal.read_bytes().endswith(b"\n")
    assert len(collector.of_kind("response")) == 2
    resource.prlimit(
        collector.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )
    assert (
        post(collector, "responses", {"responses": [response("full", t) for t in trials]}).json()["new"] == 8
    )
    collector.process.send_signal(signal.SIGINT)
    output, errors = collector.process.communicate(timeout=30)
    assert "Stopped  1 sessions, 0 of them finished; 10 answers" in output
    assert all("the journal cannot be written: File too large" in line for line in errors.splitlines())
    read_journal(collector.journal)


def test_forget_removes_a_session_for_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, options = tmp_path / "journal.jsonl", ("--journal", tmp_path / "journal.jsonl")
    experiment, moment = experiment_of(files()), datetime.now(UTC)
    with JournalFile(path, EXPERIMENT) as journal:
        sessions = Sessions(journal, experiment, b"secret")
        for name in ("keep", "drop"):
            begun = sessions.begin(EXPERIMENT, name, f"worker-{name}", moment, moment)
            answers = [response(name, trial) for trial in trials_of(begun["list"])]
            assert sessions.answer([ResponseLine.model_validate(answer) for answer in answers]) == 10
        busy = command(capsys, "forget", "drop", *options)
        assert busy.code == 2
        assert "a collector has this journal; stop it first" in busy.errors
        told = command(capsys, "status", *options)
        assert "2 sessions, 0 of them finished; 20 answers" in told.output
        assert "list 1: 1 sessions, 0 finished, 10 answers" in told.output
    before = path.read_text().splitlines()
    assert command(capsys, "forget", "drop", *options).output == "Removed 11 lines of session drop\n"
    assert path.read_text().splitlines() == [line for line in before if '"drop"' not in line]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = command(capsys, "forget", "drop", *options)
    assert (again.code, len(again.errors.splitlines())) == (2, 1)
    with JournalFile(path, EXPERIMENT) as journal:
        sessions = Sessions(journal, experiment, b"secret")
        assert sessions.begin(EXPERIMENT, "back", "worker-keep", moment, moment)["session_id"] == "keep"
        assert sessions.begin(EXPERIMENT, "new", "worker-drop", moment, moment)["session_id"] == "new"


def test_what_cannot_be_used_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, secret, moment = write_page(tmp_path), tmp_path / "secret", datetime.now(UTC)
    used, fresh = ("--journal", tmp_path / "used.jsonl"), ("--journal", tmp_path / "fresh.jsonl")
    options = ("--port", 0, "--secret", secret)

    def refused(*arguments: object) -> str:
        said = command(capsys, "collect", *arguments)
        assert (said.code, len(said.errors.splitlines()), said.output) == (2, 1, "")
        return said.errors

    with JournalFile(tmp_path / "used.jsonl", EXPERIMENT) as journal:
        Sessions(journal, experiment_of(files()), b"secret").begin(EXPERIMENT, "one", None, moment, moment)
        assert "a collector has this journal" in refused(page, *used, *options)
    assert "the secret of the experiment is missing" in refused(page, *used, *options)
    assert not secret.exists()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(page, *fresh, "--port", port, "--secret", secret)
        assert f"--port {port}: address already in use; name another" in said
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    secret.chmod(0o644)
    assert "others may read this secret; run: chmod 600" in refused(page, *fresh, *options)
    secret.write_text("short")
    secret.chmod(0o600)
    assert "holds no secret of 32 bytes" in refused(page, *fresh, *options)
    assert "is missing; write the page" in refused(tmp_path / "nothing", *fresh, *options)
    picture = next((page / "images").iterdir())
    picture.write_bytes(picture.read_bytes()[:-20])
    assert "is not what was written" in refused(page, *fresh, *options)
    other = tmp_path / "other.jsonl"
    other.write_text('{"kind": "experiment", "experiment_id": "another", "version": 1}\n')
    page = write_page(tmp_path)
    assert "is of experiment another, and the page is of" in refused(page, "--journal", other, *options)


def test_a_torn_last_line_is_cut_and_any_other_damage_is_named(tmp_path: Path) -> None:
    path, moment = tmp_path / "journal.jsonl", datetime.now(UTC)
    with JournalFile(path, EXPERIMENT) as journal:
        Sessions(journal, experiment_of(files()), b"secret").begin(EXPERIMENT, "one", None, moment, moment)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "respon')  # a power cut
    assert len(read_journal(path)[1]) == 1
    with JournalFile(path, EXPERIMENT) as journal:
        assert len(journal.entries) == 1
    assert path.read_bytes() == whole
    header, session = whole.splitlines(keepends=True)
    for content, problem in (
        (header + b"[]\n" + session, "line 2: "),
        (header + header, "line 2: a second header"),
        (header + session.replace(b"session", b"finish", 1), "line 2: "),
        (session, "is no journal; its first line must name the experiment"),
        (
            header + b'{"kind": "finish", "session_id": "x", "finished": "2026-01-31T12:00:00Z"}\n',
            "has not begun",
        ),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=problem):
            JournalFile(path, EXPERIMENT)
        assert path.read_bytes() == content


def test_a_list_counts_as_free_again_once_its_observer_has_gone(tmp_path: Path) -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    clock = [now]
    with JournalFile(tmp_path / "journal.jsonl", EXPERIMENT) as journal:
        sessions = Sessions(journal, experiment_of(files()), b"secret", now=lambda: clock[0])

        def begin_at(name: str) -> int:
            number: int = sessions.begin(EXPERIMENT, name, name, now, now)["list"]
            return number

        assert [begin_at(name) for name in "abc"] == [1, 2, 1]
        answers = [ResponseLine.model_validate(response("b", trial)) for trial in trials_of(2)]
        sessions.answer(answers)
        sessions.finish("b", now)
        clock[0] += ALIVE + timedelta(minutes=1)
        # The two observers of list 1 went away: it has no finished session, and list 2 has one.
        assert [begin_at(name) for name in "def"] == [1, 2, 1]
