"""The page of the human comparison in a real browser, with the real collector: every answer once, and none lost."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sweep.human.pages import experiment_of
from tests.browser.conftest import Browser
from tests.browser.observer import DESKTOP, PHONE, Observer
from tests.human.experiment import CollectorProcess, files, running_collector
from tests.studies import sweep

pytestmark = pytest.mark.browser

SIZES = {"practice": 1, "blocks": 2, "in_block": 2}
TRIALS = 5


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorProcess]:
    with running_collector(tmp_path, **SIZES) as running:
        yield running


@pytest.fixture
def observer(browser: Browser) -> Iterator[Observer]:
    seat = Observer(browser)
    yield seat
    seat.block()
    seat.offline(False)
    windows = browser.driver.window_handles
    for window in windows[1:]:
        browser.driver.switch_to.window(window)
        browser.driver.close()
    browser.driver.switch_to.window(windows[0])


def shown_pictures(session_list: int) -> list[str]:
    """The pictures of each trial of a list, in order, as file names."""
    trials = experiment_of(files(**SIZES))["lists"][session_list - 1]
    return [" ".join(trial[part] for part in ("target", "left", "right")) for trial in trials]


def names(shown: str, address: str) -> str:
    return shown.replace(address, "")


def check_all_once(collector: CollectorProcess, sessions: int = 1) -> list[dict[str, Any]]:
    """Every trial of every session was answered exactly once; returns the answers."""
    answers = collector.of_kind("response")
    found = sorted((line["session_id"], line["position"]) for line in answers)
    begun = sorted(line["session_id"] for line in collector.of_kind("session"))
    assert len(begun) == sessions
    assert found == [(session_id, 1 + index) for session_id in begun for index in range(TRIALS)]
    assert sorted(line["session_id"] for line in collector.of_kind("finish")) == begun
    return answers


def test_a_session_by_keyboard_is_quiet_alone_accessible_and_keeps_no_id(
    observer: Observer, collector: CollectorProcess, tmp_path: Path
) -> None:
    worker = "5f0000000000000000000abc"
    address = f"{collector.address}?PROLIFIC_PID={worker}&STUDY_ID=s1&SESSION_ID=s2"
    observer.open(address)
    found = []
    observer.reach("A study of how people see faces")
    assert observer.script("return location.href") == collector.address
    found += observer.browser.violations()
    observer.press("I agree")
    observer.reach("What to do")  # an id in the address: nobody is asked for a code
    found += observer.browser.violations()
    assert collector.of_kind("response") == []
    observer.press("Begin")
    observer.ready()
    found += observer.browser.violations()
    shown = [names(observer.choose(observer.key, side), collector.address) for side in ("left", "right")]
    assert observer.script("return document.querySelector('#bar').ariaValueNow") == "2"
    assert "2 of 5 answered" in observer.text()
    observer.until(lambda: observer.heading() in ("Time for a break", "Practice is over") or observer.trial())
    shown += [names(observer.choose(observer.key), collector.address) for _ in range(TRIALS - 2)]
    code = observer.code()
    found += observer.browser.violations()
    assert found == []
    assert observer.browser.console() == []
    requested = observer.browser.requested()
    assert all(asked.startswith(collector.address) for asked in requested)
    assert not any(worker in asked for asked in requested[1:])
    answers = check_all_once(collector)
    assert {line["source"] for line in answers} == {"key"}
    assert all(line["response_time_ms"] >= 200 for line in answers)
    assert not any(line["hidden"] or line["resumed"] for line in answers)
    assert [line["side"] for line in answers[:2]] == ["left", "right"]
    (session,) = collector.of_kind("session")
    assert shown == shown_pictures(session["list"])
    journal = collector.journal.read_text()
    assert worker not in journal
    assert "127.0.0.1" not in journal
    assert "Mozilla" not in journal
    secret = collector.journal.with_suffix(".secret")
    options = ["--journal", str(collector.journal), "--secret", str(secret), "--codes"]
    told = sweep("human", "status", *options, cwd=tmp_path)
    assert f"{session['session_id']}  {code}" in told.stdout
    # The same worker again, as after a lost page: the same session and code, and no second one.
    observer.open(address)
    observer.press("I agree")
    assert observer.code() == code
    check_all_once(collector)


def test_a_session_by_touch_on_a_phone_fits_the_screen(
    observer: Observer, collector: CollectorProcess
) -> None:
    observer.open(collector.address, PHONE, touch=True, ratio=3)
    observer.begin()
    boxes = observer.script(
        "return [...document.querySelectorAll('h1, .pictures img')].map((e) => e.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) == 4
    for box in boxes:
        assert 0 <= box["left"] < box["right"] <= PHONE[0]
        assert 0 <= box["top"] < box["bottom"] <= PHONE[1]
    assert observer.script("return document.documentElement.scrollWidth") <= PHONE[0]
    assert observer.script("return document.documentElement.scrollHeight") <= PHONE[1]
    assert observer.browser.violations() == []
    for index in range(TRIALS):
        observer.choose(observer.touch, "left" if index % 2 else "right")
    observer.code()
    answers = check_all_once(collector)
    assert {line["source"] for line in answers} == {"touch"}
    assert [line["side"] for line in answers] == ["right", "left"] * 2 + ["right"]
    assert all(line["image_px"] == pytest.approx(0.38 * PHONE[0], abs=0.1) for line in answers)


def test_a_reload_in_a_block_goes_on_with_the_same_trial(
    observer: Observer, collector: CollectorProcess
) -> None:
    observer.open(collector.address)
    observer.begin()
    for _ in range(2):
        observer.choose(observer.key)
    before = observer.ready()
    observer.browser.driver.refresh()
    observer.reach("Welcome back")
    assert "2 of 5" in observer.text()
    observer.press("Continue")
    assert observer.ready() == before
    for _ in range(3):
        observer.choose(observer.key)
    observer.code()
    answers = check_all_once(collector)
    assert [line["resumed"] for line in answers] == [False, False, True, True, True]
    assert [line["onset"] for line in answers] == sorted(line["onset"] for line in answers)


def test_answers_wait_for_a_server_that_was_killed_and_no_code_comes_before(
    observer: Observer, collector: CollectorProcess
) -> None:
    observer.open(collector.address)
    observer.begin()
    observer.choose(observer.key)
    observer.choose(observer.key)
    observer.until(lambda: len(collector.of_kind("response")) == 2)
    observer.ready()
    collector.kill()
    killed = time.monotonic()
    for _ in range(3):
        observer.choose(observer.key)  # the pictures of the last block are there already
    observer.reach("Your last answers are being sent")
    assert "Still to be sent: 3" in observer.text()
    time.sleep(max(0, 3 - (time.monotonic() - killed)))
    assert observer.heading() == "Your last answers are being sent"
    collector.start()
    observer.code()
    check_all_once(collector)


def test_a_server_that_freezes_gets_the_answers_again_and_stores_them_once(
    observer: Observer, collector: CollectorProcess
) -> None:
    observer.open(collector.address)
    observer.begin()
    observer.script("sweep.REQUEST_MS = 300")
    assert collector.process
    observer.choose(observer.key)
    observer.choose(observer.key)
    observer.until(lambda: len(collector.of_kind("response")) == 2)
    observer.ready()
    collector.process.send_signal(signal.SIGSTOP)
    for _ in range(3):
        observer.choose(observer.key)
    observer.until(lambda: "Still to be sent: 3" in observer.text())
    time.sleep(1)  # several requests are given up meanwhile, and all of them reach the server
    collector.process.send_signal(signal.SIGCONT)
    observer.code()
    check_all_once(collector)


def test_offline_answers_are_sent_as_soon_as_the_network_is_back(
    observer: Observer, collector: CollectorProcess
) -> None:
    observer.open(collector.address)
    observer.begin()
    observer.choose(observer.key)
    observer.choose(observer.key)
    observer.ready()
    observer.offline(True)
    observer.choose(observer.key)
    observer.until(lambda: "Not sent yet: 1" in observer.text())
    observer.press("Continue")
    observer.ready()
    assert observer.browser.violations() == []
    time.sleep(1.5)  # by now it waits longer between tries
    observer.offline(False)
    observer.until(lambda: len(collector.of_kind("response")) == 3, seconds=1.5)
    for _ in range(2):
        observer.choose(observer.key)
    observer.code()
    check_all_once(collector)


def test_a_reload_with_answers_that_wait_loses_none(observer: Observer, collector: CollectorProcess) -> None:
    observer.open(collector.address)
    observer.begin()
    observer.choose(observer.key)
    observer.block("*/api/*")
    observer.choose(observer.key)
    before = observer.ready()
    observer.browser.driver.refresh()
    observer.press("Continue")
    assert observer.ready() == before
    for _ in range(3):
        observer.choose(observer.key)
    observer.reach("Your last answers are being sent")
    observer.block()
    observer.code()
    check_all_once(collector)


def test_two_tabs_share_one_session(observer: Observer, collector: CollectorProcess) -> None:
    driver = observer.browser.driver
    observer.open(collector.address)
    observer.begin()
    observer.choose(observer.key)
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    driver.get(collector.address)
    observer.reach("This study is open in another tab")
    assert observer.browser.violations() == []
    driver.switch_to.window(first)
    observer.choose(observer.key)  # the first tab goes on undisturbed
    driver.switch_to.window(driver.window_handles[-1])
    observer.press("Go on in this tab")
    observer.press("Yes, go on with it")
    observer.press("Continue")
    observer.choose(observer.key)
    driver.switch_to.window(first)
    observer.reach("The study goes on in another tab")
    observer.key("left")
    driver.switch_to.window(driver.window_handles[-1])
    for _ in range(2):
        observer.choose(observer.key)
    observer.code()
    check_all_once(collector)


def test_the_back_button_and_a_return_lose_nothing(observer: Observer, collector: CollectorProcess) -> None:
    observer.open(collector.address)
    observer.begin()
    for _ in range(2):
        observer.choose(observer.key)
    before = observer.ready()
    observer.browser.driver.back()
    observer.until(lambda: observer.script("return location.href") == "about:blank")
    observer.browser.driver.forward()
    observer.until(lambda: observer.trial() or observer.heading() == "Welcome back")
    if not observer.trial():
        observer.press("Continue")
    assert observer.ready() == before
    for _ in range(TRIALS - 2):
        observer.choose(observer.key)
    observer.code()
    check_all_once(collector)


def test_a_double_click_answers_one_trial(observer: Observer, collector: CollectorProcess) -> None:
    observer.open(collector.address)
    observer.begin()
    shown = [observer.choose(lambda side: observer.click(side, count=2), "right") for _ in range(TRIALS)]
    observer.code()
    (session,) = collector.of_kind("session")
    assert [names(one, collector.address) for one in shown] == shown_pictures(session["list"])
    answers = check_all_once(collector)
    assert {line["source"] for line in answers} == {"mouse"}
    assert all(line["response_time_ms"] >= 200 for line in answers)


def test_what_comes_too_early_or_is_held_down_counts_for_nothing(
    observer: Observer, collector: CollectorProcess
) -> None:
    observer.open(collector.address)
    observer.begin()
    shown = observer.trial()
    held = {"type": "keyDown", "code": "KeyF", "key": "f", "autoRepeat": True}
    observer.browser.cdp("Input.dispatchKeyEvent", held)
    observer.browser.cdp(
        "Input.dispatchKeyEvent", {"type": "keyDown", "code": "KeyF", "key": "f", "modifiers": 2}
    )
    observer.browser.cdp("Input.dispatchKeyEvent", {"type": "keyDown", "code": "KeyA", "key": "f"})
    time.sleep(0.1)
    assert observer.trial() == shown
    # Keys in every frame: those within 200 ms of the pictures must not count.
    observer.script(
        "const press = () => { document.dispatchEvent(new KeyboardEvent('keydown', { code: 'KeyJ', bubbles: true }));"
        " requestAnimationFrame(press); }; press();"
    )
    observer.until(lambda: len(collector.of_kind("response")) == 1)
    assert collector.of_kind("response")[0]["response_time_ms"] >= 200
    observer.press("Continue")
    observer.until(lambda: observer.heading() == "Time for a break")
    for line in collector.of_kind("response")[1:]:
        assert 200 <= line["response_time_ms"] < 400


def test_a_closed_tab_leaves_its_answers_and_its_session(
    observer: Observer, collector: CollectorProcess
) -> None:
    driver = observer.browser.driver
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    observer.open(collector.address)
    observer.begin()
    observer.choose(observer.key)
    observer.choose(observer.key)
    driver.close()
    driver.switch_to.window(first)
    observer.until(lambda: len(collector.of_kind("response")) == 2)
    observer.open(collector.address)
    observer.reach("There is an unfinished session on this device")
    assert observer.browser.violations() == []
    observer.press("No, I am someone else")
    observer.begin()
    for _ in range(TRIALS):
        observer.choose(observer.key)
    first_code = observer.code()
    observer.press("Next observer")
    observer.begin()
    for _ in range(TRIALS):
        observer.choose(observer.key)
    assert observer.code() != first_code
    sessions = collector.of_kind("session")
    assert len({line["subject_id"] for line in sessions}) == 3
    answered = [
        sum(a["session_id"] == s["session_id"] for a in collector.of_kind("response")) for s in sessions
    ]
    assert answered == [2, TRIALS, TRIALS]


def test_answers_behind_another_tab_are_marked(observer: Observer, collector: CollectorProcess) -> None:
    driver = observer.browser.driver
    observer.open(collector.address)
    observer.begin()
    place = "return document.querySelector('.target').getBoundingClientRect().toJSON()"
    before = observer.script(place)
    assert "to use the keys" not in observer.text()
    observer.script("document.hasFocus = () => false; dispatchEvent(new Event('blur'))")
    assert "Click anywhere on this page to use the keys." in observer.text()
    assert observer.script(place) == before
    assert observer.browser.violations() == []
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    time.sleep(0.3)
    driver.close()
    driver.switch_to.window(first)
    for _ in range(2):
        observer.choose(observer.key)
    observer.until(lambda: len(collector.of_kind("response")) == 2)
    assert [line["hidden"] for line in collector.of_kind("response")] == [True, False]


def test_who_declines_leaves_nothing_and_the_languages_can_be_changed(
    observer: Observer, collector: CollectorProcess
) -> None:
    observer.open(f"{collector.address}?lang=de")
    observer.reach("Eine Studie darüber, wie Menschen Gesichter sehen")
    assert observer.script("return document.documentElement.lang") == "de"
    assert observer.browser.violations() == []
    observer.press("English")
    observer.reach("A study of how people see faces")
    observer.press("I do not agree")
    observer.reach("You are not taking part")
    assert collector.lines() == []
    observer.open(f"{collector.address}?assignmentId=ASSIGNMENT_ID_NOT_AVAILABLE&workerId=W1")
    observer.reach("This is a preview")
    assert collector.lines() == []


def test_a_code_is_checked_and_the_keyboard_alone_suffices(
    observer: Observer, collector: CollectorProcess
) -> None:
    from selenium.webdriver.common.keys import Keys

    observer.open(collector.address)
    observer.reach("A study of how people see faces")
    active = observer.browser.driver.switch_to
    for _ in range(2):  # past the language
        active.active_element.send_keys(Keys.TAB)
    assert active.active_element.text == "I agree"
    active.active_element.send_keys(Keys.ENTER)
    observer.reach("Your participant code")
    active.active_element.send_keys(Keys.TAB)
    active.active_element.send_keys("no blanks", Keys.ENTER)
    observer.until(lambda: "A code has letters" in observer.text())
    assert observer.browser.violations() == []
    active.active_element.send_keys(Keys.BACKSPACE * 9, "lab-7", Keys.ENTER)
    observer.reach("What to do")
    active.active_element.send_keys(Keys.TAB)
    active.active_element.send_keys(Keys.ENTER)
    shown = observer.ready()
    observer.browser.cdp(
        "Input.dispatchKeyEvent", {"type": "keyDown", "code": "ArrowRight", "key": "ArrowRight"}
    )
    observer.until(lambda: observer.trial() != shown)
    observer.until(lambda: len(collector.of_kind("response")) == 1)
    assert collector.of_kind("response")[0]["side"] == "right"
    assert "lab-7" not in collector.journal.read_text()


@contextmanager
def static_server(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server that knows nothing of experiments; what is posted to `sink` is kept."""
    import functools
    import http.server
    import threading

    posted: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            posted.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", posted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write(folder: Path, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def check_file(text: str) -> list[dict[str, Any]]:
    """The lines of one whole session."""
    from sweep.human.journal import parsed

    lines = [json.loads(line) for line in text.splitlines()]
    for line in text.splitlines():
        parsed(line)
    assert [line["kind"] for line in lines] == ["experiment", "session", *["response"] * TRIALS, "finish"]
    assert [line["position"] for line in lines if line["kind"] == "response"] == list(range(1, TRIALS + 1))
    assert len({line["session_id"] for line in lines[1:]}) == 1
    return lines


def test_the_page_works_as_a_file_and_hands_over_its_answers(observer: Observer, tmp_path: Path) -> None:
    write(tmp_path / "page", files(**SIZES))
    saved = tmp_path / "saved"
    observer.browser.cdp("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(saved)})
    observer.open(f"{(tmp_path / 'page' / 'index.html').as_uri()}?observer=lab-7&list=2")
    observer.begin()
    observer.choose(observer.key)
    observer.browser.driver.refresh()
    observer.press("Continue")
    for _ in range(TRIALS - 1):
        observer.choose(observer.key)
    observer.reach("Thank you")
    assert observer.browser.violations() == []
    assert "completion code" not in observer.text()
    observer.press("Save my answers as a file")
    observer.until(lambda: list(saved.glob("*.jsonl")))
    (file,) = saved.glob("*.jsonl")
    observer.until(file.read_text)
    lines = check_file(file.read_text())
    assert (lines[1]["subject_id"], lines[1]["list"]) == ("lab-7", 2)
    assert observer.browser.console() == []
    observer.press("Next observer")
    observer.reach("A study of how people see faces")


def test_a_fault_of_the_page_is_said_and_a_reload_goes_on(
    observer: Observer, collector: CollectorProcess
) -> None:
    observer.open(collector.address)
    observer.begin()
    observer.choose(observer.key)
    observer.reach("Practice is over")
    observer.script("sweep.ChoicePlugin.prototype.draw = () => { throw new Error('broken'); }")
    observer.press("Continue")
    observer.reach("Something went wrong on this page")
    assert any("broken" in line for line in observer.browser.console())
    observer.press("Try again")
    observer.press("Continue")
    for _ in range(TRIALS - 1):
        observer.choose(observer.key)
    observer.code()
    check_all_once(collector)


def test_a_picture_that_does_not_load_is_said_and_tried_again(observer: Observer, tmp_path: Path) -> None:
    content = files(**SIZES)
    trial = experiment_of(content)["lists"][0][1]
    write(tmp_path, {name: data for name, data in content.items() if name != trial["target"]})
    with static_server(tmp_path) as (address, _):
        observer.open(f"{address}?list=1&observer=x")
        observer.begin()
        observer.choose(observer.key)
        observer.press("Continue")
        observer.reach("Some faces did not load")
        assert "Missing: 1 of " in observer.text()
        assert observer.browser.violations() == []
        write(tmp_path, {trial["target"]: content[trial["target"]]})
        observer.press("Try again")
        for _ in range(TRIALS - 1):
            observer.choose(observer.key)
        observer.reach("Thank you")


def test_a_session_runs_where_the_browser_keeps_nothing(observer: Observer, tmp_path: Path) -> None:
    write(tmp_path, files(**SIZES))
    frame = '<!DOCTYPE html><title>frame</title><iframe sandbox="allow-scripts" src="index.html?observer=x"></iframe>'
    (tmp_path / "frame.html").write_text(frame)
    with static_server(tmp_path) as (address, _):
        observer.open(f"{address}frame.html")
        observer.browser.driver.switch_to.frame(0)
        with pytest.raises(Exception, match="sandboxed"):
            observer.script("return localStorage.length")

        drawn = observer.script("return Array.from({ length: 60 }, () => sweep.ownList(null))")
        assert set(drawn) == {1, 2}

        def key(_: str) -> None:
            observer.script("document.dispatchEvent(new KeyboardEvent('keydown', { code: 'KeyF' }))")

        observer.begin()
        for _ in range(TRIALS):
            observer.choose(key)
        observer.reach("Thank you")
        observer.browser.driver.switch_to.default_content()


JATOS = """
// What the page uses of jatos.js, with a network that fails twice.
let failures = 2;
window.jatos = {
  urlQueryParameters: { PROLIFIC_PID: "secret-worker", list: "2" },
  onLoad: (call) => setTimeout(call, 50),
  appendResultData: async (text) => {
    if (failures-- > 0) throw new Error("no network");
    await fetch("sink", { method: "POST", body: text });
  },
  endStudy: () => (document.title = "ended"),
};
"""


def test_the_page_works_inside_jatos(observer: Observer, tmp_path: Path) -> None:
    import io
    import zipfile

    from sweep.human.jatos import archive

    with zipfile.ZipFile(io.BytesIO(archive(files(**SIZES), "Faces"))) as made:
        made.extractall(tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (folder / "jatos.js").write_text(JATOS)
    with static_server(folder) as (address, posted):
        observer.open(f"{address}jatos.html", DESKTOP)
        observer.begin()
        for _ in range(TRIALS):
            observer.choose(observer.key)
        observer.reach("Thank you")
        assert "completion code" not in observer.text()
        observer.press("Finish")
        observer.until(lambda: observer.script("return document.title") == "ended")
        assert observer.browser.console() == []
    text = "".join(posted)
    lines = check_file(text)
    assert lines[1]["list"] == 2
    assert "secret-worker" not in text
