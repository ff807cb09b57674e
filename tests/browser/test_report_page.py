"""The report in a real browser: quiet, alone, readable on any screen, and usable without a mouse."""

import base64
from pathlib import Path
from typing import Any

import pytest

from sweep.plan import make_plan
from sweep.report.answers import answers_of
from sweep.report.page import PAGE, write_report
from sweep.storage.store import Store
from tests.browser.conftest import Browser
from tests.report.simulated import simulate
from tests.studies import write_small_study

pytestmark = pytest.mark.browser

DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("study")
    plan = make_plan(write_small_study(folder).path)
    store = Store(str(folder / "results" / "small"))
    simulate(plan, store)
    write_report(answers_of(plan, store))
    return (Path(store.root) / PAGE).as_uri()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("size", "mobile"), [(DESKTOP, False), (PHONE, True)], ids=["desktop", "phone"])
def test_the_page_is_quiet_alone_accessible_and_fits(
    browser: Browser, address: str, size: tuple[int, int], mobile: bool, dark: bool
) -> None:
    browser.show(address, *size, mobile=mobile, dark=dark)
    browser.driver.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
    loaded = browser.driver.execute_script(
        "return [...document.images].every((i) => i.complete && (!i.src || i.naturalWidth))"
    )
    assert loaded
    assert browser.requested() == [address]
    assert browser.violations() == []
    assert browser.console() == []
    width = browser.driver.execute_script("return document.documentElement.scrollWidth")
    assert width <= size[0]
    if not mobile:
        overflowing = browser.driver.execute_script(
            "return [...document.querySelectorAll('.wide')].filter((e) => e.scrollWidth > e.clientWidth)"
            ".map((e) => e.getAttribute('aria-label'))"
        )
        assert overflowing == []


def test_a_figure_grows_on_enter_and_shrinks_on_escape(browser: Browser, address: str) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.show(address, *DESKTOP)
    button = browser.driver.find_element("css selector", "#accuracy_curves_mean .zoom")
    small = button.find_element("tag name", "img")
    before = small.size["width"]
    button.send_keys(Keys.ENTER)
    dialog = browser.driver.find_element("id", "large")
    large = dialog.find_element("tag name", "img")
    assert dialog.get_property("open")
    assert large.get_attribute("alt") == small.get_attribute("alt")
    assert large.size["width"] > 1.2 * before
    assert browser.violations() == []
    browser.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.get_property("open")
    assert browser.driver.switch_to.active_element == button
    assert browser.console() == []


def test_a_figure_can_be_seen_large_on_a_phone(browser: Browser, address: str) -> None:
    browser.show(address, *PHONE, mobile=True)
    button = browser.driver.find_element("css selector", "#accuracy_curves_mean .zoom")
    browser.driver.execute_script("arguments[0].click()", button)
    image = browser.driver.find_element("css selector", "#large img")
    assert image.size["width"] >= 800  # to be moved about in its frame
    browser.driver.find_element("css selector", "#large .close").click()
    assert not browser.driver.find_element("id", "large").get_property("open")


def column(table: Any, index: int) -> list[str]:
    rows = table.find_elements("css selector", "tbody tr")
    return [row.find_elements("tag name", "td")[index].text for row in rows]


def test_tables_sort_by_number_or_name_both_ways(browser: Browser, address: str) -> None:
    browser.show(address, *DESKTOP)
    table = browser.driver.find_element("css selector", "#masking table")
    heads = table.find_elements("tag name", "th")
    names = [head.text.removesuffix(" ↕") for head in heads]
    for name, key in (("AUC over log percent", float), ("bin", str)):
        index = names.index(name)
        button = heads[index].find_element("tag name", "button")
        for direction in ("ascending", "descending"):
            browser.driver.execute_script("arguments[0].click()", button)
            shown = [key(text) for text in column(table, index)]
            assert shown == sorted(shown, reverse=direction == "descending")
            assert heads[index].get_attribute("aria-sort") == direction
    assert [head.get_attribute("aria-sort") for head in heads].count("descending") == 1
    assert browser.violations() == []


def test_printing_leaves_out_what_only_a_screen_can_use(browser: Browser, address: str) -> None:
    browser.show(address, *DESKTOP, dark=True)
    browser.cdp("Emulation.setEmulatedMedia", {"media": "print"})
    style = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    assert browser.driver.execute_script(style, "nav", "display") == "none"
    assert browser.driver.execute_script(style, "body", "backgroundColor") == "rgb(255, 255, 255)"
    printed = base64.b64decode(browser.cdp("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") > 3


def test_the_checks_see_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!DOCTYPE html><html><title>bad</title><p style='color:#ccc;background:#fff;width:2000px'>faint</p>"
        "<img src='missing.png'><script>console.error('loud')</script></html>"
    )
    browser.show(bad.as_uri(), *PHONE, mobile=True)
    assert browser.requested() == [bad.as_uri(), (tmp_path / "missing.png").as_uri()]
    assert any("loud" in line for line in browser.console())
    found = " ".join(browser.violations())
    for rule in ("color-contrast", "html-has-lang", "image-alt"):
        assert rule in found
    assert browser.driver.execute_script("return document.documentElement.scrollWidth") > PHONE[0]
