"""The test project in a real browser, its scripts off: no page needs one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from .demonstration import PATIENCE, serving, until_it_stays_up

pytestmark = pytest.mark.slow


PAGES = ["", "basic/", "basic/async/", "cart/", "session/", "plain/", "login/"]
#: WCAG 2.2, level AA, for text of ordinary size.
LEAST_CONTRAST = 4.5

CONTRASTS = """
const luminance = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (colour !== "rgba(0, 0, 0, 0)") return colour;
  }
};
return [...document.body.querySelectorAll("*")]
  .filter((element) => [...element.childNodes].some(
    (node) => node.nodeType === Node.TEXT_NODE && node.data.trim()
  ))
  .map((element) => {
    const both = [getComputedStyle(element).color, behind(element)].map(luminance);
    return [(Math.max(...both) + 0.05) / (Math.min(...both) + 0.05), element.outerHTML];
  });
"""


def chromium() -> tuple[str, str]:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    reason = "needs chromium and chromedriver"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    binary, service = chromium()
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    # A sandbox needs what a container often does not give, and shared memory with it.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(driver: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("demo")) as process:
        yield until_it_stays_up(process)


@pytest.fixture(autouse=True)
def _visitor(driver: webdriver.Chrome, address: str) -> None:
    driver.get(address)
    driver.delete_all_cookies()
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})


def look(driver: webdriver.Chrome, *, width: int = 1100, scheme: str = "light") -> None:
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )


def ask(driver: webdriver.Chrome, script: str) -> object:
    """Run a script of the test's own, on a page that runs none."""
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    return driver.execute_script(script)


def result(driver: webdriver.Chrome) -> str:
    return driver.find_element(By.ID, "result").text


def press(driver: webdriver.Chrome, selector: str, until: Callable[[str], bool]) -> None:
    driver.find_element(By.CSS_SELECTOR, selector).click()
    waiting = WebDriverWait(driver, PATIENCE, ignored_exceptions=[WebDriverException])
    waiting.until(lambda driver: until(result(driver)))


def test_a_cart_is_filled_and_emptied(driver, address):
    driver.get(f"{address}cart/")
    assert result(driver) == "The cart is empty."
    press(driver, "button[value=Tea]", lambda text: text == "In the cart: Tea.")
    press(driver, "button[value=Cake]", lambda text: text == "In the cart: Tea, Cake.")
    press(driver, ".lines button[value=Tea]", lambda text: text == "In the cart: Cake.")
    press(driver, ".lines button[value=Cake]", lambda text: text == "The cart is empty.")


def test_a_visitor_logs_in_and_out(driver, address):
    driver.get(f"{address}login/")
    driver.find_element(By.NAME, "username").send_keys("ada")
    driver.find_element(By.NAME, "password").send_keys("lovelace")
    press(driver, ".stack button", lambda text: text == "Welcome, ada.")
    press(driver, ".visitor button", lambda text: text == "Welcome, whoever you are.")


def test_a_visitor_sets_the_idle_limit_and_ends_the_session(driver, address):
    driver.get(f"{address}session/")
    driver.find_element(By.NAME, "seconds").send_keys("900")
    press(driver, ".stack button", lambda text: text == "Idle limit: 900 seconds.")
    assert driver.get_cookie("sessionid")
    press(driver, ".danger", lambda text: text == "No session of yours is stored.")
    assert not driver.get_cookie("sessionid")


def test_the_page_without_session_sets_no_cookie(driver, address):
    driver.get(f"{address}plain/")
    assert result(driver) == "This page uses no session."
    assert not driver.get_cookies()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
@pytest.mark.parametrize("page", PAGES)
def test_pages_fit_the_screen_and_can_be_read(driver, address, page, width, scheme):
    look(driver, width=width, scheme=scheme)
    driver.get(f"{address}basic/")
    driver.get(f"{address}{page}")
    assert ask(driver, "return document.documentElement.scrollWidth - innerWidth") <= 0
    contrasts = ask(driver, CONTRASTS)
    assert contrasts
    assert not [text for contrast, text in contrasts if contrast < LEAST_CONTRAST]


def test_a_dark_screen_gets_a_dark_page(driver, address):
    paper = "return getComputedStyle(document.body).backgroundColor"
    look(driver, scheme="light")
    light = ask(driver, paper)
    look(driver, scheme="dark")
    assert ask(driver, paper) != light


def test_the_browser_has_nothing_to_complain_about(driver, address):
    driver.get_log("browser")
    for page in PAGES:
        driver.get(f"{address}{page}")
    assert not driver.get_log("browser")
