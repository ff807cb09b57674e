"""An observer in the browser: reads the page, and answers by key, mouse or touch."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.browser.conftest import Browser

PHONE = (390, 664)
DESKTOP = (1280, 800)


@dataclass
class Observer:
    """Somebody who sits in front of the page of an experiment."""

    browser: Browser

    def open(
        self, address: str, size: tuple[int, int] = DESKTOP, *, touch: bool = False, ratio: int = 1
    ) -> None:
        self.browser.cdp(
            "Emulation.setTouchEmulationEnabled", {"enabled": touch, "maxTouchPoints": 1 + touch}
        )
        self.browser.show(address, *size, mobile=touch)
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": ratio, "mobile": touch}
        self.browser.cdp("Emulation.setDeviceMetricsOverride", metrics)

    def script(self, text: str, *arguments: object) -> Any:
        return self.browser.driver.execute_script(text, *arguments)

    def heading(self) -> str:
        return str(self.script("return document.querySelector('h1')?.textContent ?? ''"))

    def text(self) -> str:
        return str(self.script("return document.body.innerText"))

    def until(self, true: Callable[[], object], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.text()
            time.sleep(0.03)

    def reach(self, heading: str) -> None:
        """Wait for a page of text."""
        self.until(lambda: self.heading() == heading)

    def press(self, label: str) -> None:
        """Click the button with this label, once it is there."""
        find = "return [...document.querySelectorAll('button')].find((b) => b.textContent === arguments[0])"
        self.until(lambda: self.script(find, label))
        self.script(find, label).click()

    def begin(self) -> None:
        """From consent to the first trial."""
        self.press("I agree")
        if self.to_code():
            self.press("Continue")
        self.press("Begin")
        self.ready()

    def to_code(self) -> bool:
        """Whether the page asks for a code, or else gives its instructions."""
        self.until(lambda: self.heading() in ("Your participant code", "What to do"))
        return self.heading() == "Your participant code"

    def trial(self) -> str:
        """The trial on the screen, by its pictures; empty where there is none that takes an answer yet."""
        return str(
            self.script(
                "return [...document.querySelectorAll('.pictures:not(.unseen) img')].map((i) => i.src).join(' ')"
            )
        )

    def ready(self) -> str:
        """Wait for a trial that takes an answer; returns it."""
        self.until(self.trial)
        time.sleep(0.25)
        return self.trial()

    def choose(self, answer: Callable[[str], None], side: str = "left") -> str:
        """Answer the next trial, with a rest before it where there is one; returns what was shown."""
        self.until(lambda: self.trial() or self.heading() in ("Practice is over", "Time for a break"))
        if not self.trial():
            self.press("Continue")
        shown = self.ready()
        answer(side)
        self.until(lambda: self.trial() != shown)
        return shown

    def key(self, side: str) -> None:
        """F or J on a keyboard with Cyrillic letters."""
        code, letter = {"left": ("KeyF", "а"), "right": ("KeyJ", "о")}[side]
        for kind in ("keyDown", "keyUp"):
            self.browser.cdp("Input.dispatchKeyEvent", {"type": kind, "code": code, "key": letter})

    def touch(self, side: str) -> None:
        x, y = self.middle(side)
        self.browser.cdp(
            "Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]}
        )
        self.browser.cdp("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def click(self, side: str, count: int = 1) -> None:
        x, y = self.middle(side)
        for number in range(1, count + 1):
            for kind in ("mousePressed", "mouseReleased"):
                event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": number}
                self.browser.cdp("Input.dispatchMouseEvent", event)

    def middle(self, side: str) -> tuple[float, float]:
        box = self.script(
            "return document.querySelector(`[data-side=${arguments[0]}] img`).getBoundingClientRect().toJSON()",
            side,
        )
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def block(self, *patterns: str) -> None:
        """Let requests to these addresses fail."""
        self.browser.cdp("Network.enable", {})
        self.browser.cdp("Network.setBlockedURLs", {"urls": list(patterns)})

    def offline(self, away: bool) -> None:
        conditions = {"offline": away, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.browser.cdp("Network.enable", {})
        self.browser.cdp("Network.emulateNetworkConditions", conditions)

    def code(self) -> str:
        """The completion code, once the page shows it."""
        self.reach("Thank you")
        return str(self.script("return document.querySelector('.number strong').textContent"))
