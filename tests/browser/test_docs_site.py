"""The docs' site in a real browser: every page is quiet, asks only its own server, and fits a phone."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import pytest

from tests.browser.conftest import Browser

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
DESKTOP, PHONE = (1280, 900), (390, 844)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """Address of the built site, and the paths of its pages."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    handler = functools.partial(Quiet, directory=str(folder))
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("index.html"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", [path.removesuffix("index.html") for path in found]
        server.shutdown()
        thread.join()


def test_every_page_is_quiet_and_fits_a_desktop_and_a_phone(
    browser: Browser, site: tuple[str, list[str]]
) -> None:
    address, paths = site
    assert {"", "concepts/", "numbers/", "reference/commands/", "reference/sql/"} <= set(paths)
    problems = []
    for path in paths:
        for size, mobile in ((DESKTOP, False), (PHONE, True)):
            browser.show(address + path, *size, mobile=mobile)
            width = browser.driver.execute_script("return document.documentElement.scrollWidth")
            if width > size[0]:
                problems.append(f"{path} is {width} pixels wide on {size[0]}")
            problems += [f"{path}: {line}" for line in browser.console()]
            problems += [f"{path} asks {one}" for one in browser.requested() if not one.startswith(address)]
    assert problems == []


def test_no_link_on_the_site_is_broken(browser: Browser, site: tuple[str, list[str]]) -> None:
    address, paths = site
    links: dict[str, set[str]] = {}
    ids: dict[str, set[str]] = {}
    for path in paths:
        browser.show(address + path, *DESKTOP)
        ids[address + path] = set(
            browser.driver.execute_script("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
        )
        hrefs = browser.driver.execute_script(
            "return [...document.querySelectorAll('a[href]')].map((a) => a.getAttribute('href'))"
        )
        for href in hrefs:
            links.setdefault(urljoin(address + path, href), set()).add(path)
    broken = []
    for link, where in links.items():
        page, fragment = urldefrag(link)
        if not link.startswith(address):
            assert link.startswith("https://"), link
            continue
        of_page = page.rsplit("/", 1)[-1] in ("", "index.html")
        if of_page and (page not in ids or (fragment and fragment not in ids[page])):
            broken.append(f"{link} on {sorted(where)}")
    assert broken == []


def test_search_finds_a_page(browser: Browser, site: tuple[str, list[str]]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    address, _ = site
    browser.show(address, *DESKTOP)
    field = browser.driver.find_element("css selector", "input.md-search__input")
    browser.driver.execute_script("arguments[0].focus()", field)
    field.send_keys("lme4")
    found = WebDriverWait(browser.driver, 20).until(
        lambda driver: driver.find_elements("css selector", "a.md-search-result__link")
    )
    assert any("numbers/" in one.get_attribute("href") for one in found)
