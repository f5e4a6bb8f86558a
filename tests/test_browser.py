"""The test project in a real browser, its scripts off: no page needs one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pages.visitors import Visitor
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from .browsers import allow_scripts, ask, assert_readable, axe_violations, chromium, look
from .demonstration import PATIENCE, serving, until_it_stays_up

pytestmark = pytest.mark.slow


PAGES = ["", "basic/", "basic/async/", "cart/", "session/", "plain/", "login/"]


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def address(driver: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("demo")) as process:
        yield until_it_stays_up(process)


@pytest.fixture(autouse=True)
def _visitor(driver: webdriver.Chrome, address: str) -> None:
    driver.get(address)
    driver.delete_all_cookies()
    allow_scripts(driver, False)


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
    assert_readable(driver)


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


LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1"
)


class TestYourSessions:
    @pytest.fixture(autouse=True)
    def _logged_in(self, driver: webdriver.Chrome, address: str) -> None:
        look(driver)
        linux = self.log_in_elsewhere(address, LINUX)
        linux.get("/sessions/", "You have ")
        linux.post("/sessions/end-others/", "Signed out in ")
        self.phone = self.log_in_elsewhere(address, PHONE)
        driver.get(f"{address}login/")
        driver.find_element(By.NAME, "username").send_keys("ada")
        driver.find_element(By.NAME, "password").send_keys("lovelace")
        press(driver, ".stack button", lambda text: text == "Welcome, ada.")
        driver.get(f"{address}sessions/")

    def log_in_elsewhere(self, address: str, user_agent: str) -> Visitor:
        visitor = Visitor("Ada", address.rstrip("/"), lambda line: None, user_agent)
        visitor.get("/login/", "")
        visitor.post("/login/", "Welcome, ada.", username="ada", password="lovelace", next="")
        return visitor

    def test_says_where_the_visitor_is_logged_in(self, driver):
        assert result(driver) == "You have 3 sessions."
        places = [item.text for item in driver.find_elements(By.CSS_SELECTOR, ".places h2")]
        assert places == ["Chrome on Linux This one", "Safari on iPhone", "Firefox on Linux"]

    def test_signs_out_one_by_keyboard(self, driver):
        # The last stop is the button of the end of the page, the one before it that of a place.
        button = driver.find_elements(By.CSS_SELECTOR, ".places button")[1]
        assert button.accessible_name == "Sign out Safari on iPhone"
        while driver.switch_to.active_element != button:
            driver.switch_to.active_element.send_keys(Keys.TAB)
        assert ask(driver, "return getComputedStyle(document.activeElement).outlineWidth") == "3px"
        allow_scripts(driver, False)
        button.send_keys(Keys.ENTER)
        self._wait(driver, "Signed out there.")
        assert len(driver.find_elements(By.CSS_SELECTOR, ".places li")) == 2
        self.phone.get("/", "Welcome, whoever you are.")

    def test_signs_out_everywhere_else(self, driver):
        press(driver, ".danger", lambda text: text == "Signed out in 2 other places.")
        assert len(driver.find_elements(By.CSS_SELECTOR, ".places li")) == 1
        assert not driver.find_elements(By.CSS_SELECTOR, ".danger")
        self.phone.get("/", "Welcome, whoever you are.")

    def test_signs_out_here(self, driver):
        press(driver, ".places li[aria-current] button", lambda text: "whoever" in text)
        assert not driver.get_cookie("sessionid")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [320, 1100])
    def test_fits_the_screen_and_gives_axe_nothing_to_say(self, driver, tmp_path, width, scheme):
        look(driver, width=width, scheme=scheme)
        assert_readable(driver)
        assert axe_violations(driver) == []

    def _wait(self, driver: webdriver.Chrome, said: str) -> None:
        waiting = WebDriverWait(driver, PATIENCE, ignored_exceptions=[WebDriverException])
        waiting.until(lambda driver: result(driver) == said)
