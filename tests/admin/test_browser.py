"""The admin in a real browser: by keyboard, on a telephone, in light and dark, on each engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.browsers import ask, axe_violations, chromium, look
from tests.demonstration import PATIENCE, serving, until_it_stays_up
from tests.redis_servers import binary

from .conftest import OWN_DB, OWN_REDIS
from .urls import SESSIONS

pytestmark = pytest.mark.slow

ENGINES = ("db", "cached_db", "file", "cache", OWN_DB, OWN_REDIS)
OURS = "#content-main"


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("demo"), "--engine", OWN_DB) as process:
        yield until_it_stays_up(process)


@pytest.fixture
def address(driver: webdriver.Chrome, site: str) -> str:
    """The site, with its operator logged in: another test may have taken the cookies."""
    driver.get(f"{site}admin/")
    if driver.find_elements(By.NAME, "username"):
        look(driver)
        log_in(driver, site)
    return site


def wait_for(driver: webdriver.Chrome, text: str) -> None:
    waiting = WebDriverWait(driver, PATIENCE, ignored_exceptions=[WebDriverException])
    waiting.until(lambda driver: text in driver.find_element(By.TAG_NAME, "main").text)


def log_in(driver: webdriver.Chrome, address: str) -> None:
    driver.get(f"{address}admin/")
    driver.find_element(By.NAME, "username").send_keys("grace")
    driver.find_element(By.NAME, "password").send_keys("hopper", Keys.ENTER)
    wait_for(driver, "Site administration")


def tab_to(driver: webdriver.Chrome, selector: str) -> None:
    """Move the focus with the Tab key, as somebody does who has no mouse."""
    wanted = driver.find_element(By.CSS_SELECTOR, selector)
    for _ in range(100):
        if driver.switch_to.active_element == wanted:
            return
        driver.switch_to.active_element.send_keys(Keys.TAB)
    raise AssertionError(f"{selector} can't be reached by keyboard")


def type_keys(driver: webdriver.Chrome, *keys: str) -> None:
    driver.switch_to.active_element.send_keys(*keys)


@pytest.mark.parametrize("engine", ENGINES)
def test_sessions_are_found_and_ended_by_keyboard(driver, tmp_path, engine):
    if engine in ("cache", OWN_REDIS):
        binary("server")
    with serving(tmp_path, "--engine", engine) as process:
        address = until_it_stays_up(process)
        driver.delete_all_cookies()
        look(driver, width=1280)
        log_in(driver, address)
        driver.get(f"{address[:-1]}{SESSIONS}?anonymous=1&state=active")
        wait_for(driver, "1 session on this page")
        tab_to(driver, ".action-select")
        type_keys(driver, Keys.SPACE)
        driver.find_element(By.TAG_NAME, "body").send_keys(Keys.HOME)
        driver.find_element(By.NAME, "action").send_keys("End selected sessions")
        tab_to(driver, ".actions button")
        type_keys(driver, Keys.ENTER)
        wait_for(driver, "Do you want to end these sessions?")
        tab_to(driver, f"{OURS} [type=submit]")
        type_keys(driver, Keys.ENTER)
        wait_for(driver, "Ended 1 session.")
        tab_to(driver, "#searchbar")
        type_keys(driver, "ada", Keys.ENTER)
        wait_for(driver, "1 session on this page")
        tab_to(driver, ".field-handle a")
        type_keys(driver, Keys.ENTER)
        wait_for(driver, '["Tea", "Biscuits"]')
        tab_to(driver, ".deletelink")
        type_keys(driver, Keys.ENTER)
        wait_for(driver, "Do you want to end this session?")
        tab_to(driver, f"{OURS} [type=submit]")
        type_keys(driver, Keys.ENTER)
        wait_for(driver, "Ended 1 session.")
        users = [cell.text for cell in driver.find_elements(By.CSS_SELECTOR, ".field-user")]
        assert "grace" in users
        assert "ada" not in users


@pytest.fixture
def paths(driver: webdriver.Chrome, address: str) -> dict[str, str]:
    driver.get(f"{address[:-1]}{SESSIONS}?user=1")
    one = driver.find_element(By.CSS_SELECTOR, ".field-handle a").get_attribute("href")
    assert one is not None
    session = one.partition(SESSIONS)[2].partition("/")[0]
    return {
        "list": "",
        "nothing": "?state=expired&user=1",
        "session": f"{session}/change/",
        "end": f"{session}/delete/",
        "end of user": "end/?user=1",
        "summary": "summary/",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", ["list", "nothing", "session", "end", "end of user", "summary"])
def test_pages_fit_the_screen_and_axe_finds_nothing(driver, address, paths, page, width, scheme):
    look(driver, width=width, scheme=scheme)
    driver.get(f"{address[:-1]}{SESSIONS}{paths[page]}")
    assert ask(driver, "return document.documentElement.scrollWidth - innerWidth") <= 0
    assert not axe_violations(driver, OURS)


def test_the_policy_of_the_site_lets_all_be(driver, address, paths):
    driver.get_log("browser")
    for path in paths.values():
        driver.get(f"{address[:-1]}{SESSIONS}{path}")
    assert [entry for entry in driver.get_log("browser") if "favicon" not in entry["message"]] == []


def test_a_click_on_a_heading_selects_all(driver, address, paths):
    look(driver, width=1280)
    driver.get(f"{address[:-1]}{SESSIONS}")
    driver.find_element(By.ID, "action-toggle").click()
    boxes = driver.find_elements(By.CSS_SELECTOR, ".action-select")
    assert len(boxes) > 2
    assert all(box.is_selected() for box in boxes)
