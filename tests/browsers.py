"""Headless Chromium, and what the tests ask it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

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
RUN_AXE = """
const [within, done] = arguments;
axe.run(within).then((results) => done(results.violations));
"""


def missing(what: str) -> None:
    """Skip the test, or fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """Run the browser; skips the test, or fails it in CI, without one."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver_path = shutil.which("chromedriver")
    if not (browser and driver_path):
        missing("chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    # A sandbox needs what a container often does not give, and shared memory with it.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        yield driver
    finally:
        driver.quit()


def allow_scripts(driver: webdriver.Chrome, allowed: bool) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not allowed})


def look(driver: webdriver.Chrome, *, width: int = 1100, scheme: str = "light") -> None:
    """Set the width of the screen, and whether it is a light or a dark one."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )


def ask(driver: webdriver.Chrome, script: str) -> Any:
    """Run a script of the test's own, on a page that runs none."""
    allow_scripts(driver, True)
    return driver.execute_script(script)


def assert_readable(driver: webdriver.Chrome) -> None:
    """Assert that the page fits the screen and that its text stands out."""
    assert ask(driver, "return document.documentElement.scrollWidth - innerWidth") <= 0
    contrasts = ask(driver, CONTRASTS)
    assert contrasts
    assert not [text for contrast, text in contrasts if contrast < LEAST_CONTRAST]


def axe_violations(driver: webdriver.Chrome, within: str = "html") -> list[str]:
    """Return what axe-core has to say against a part of the page, each on a line of its own."""
    allow_scripts(driver, True)
    driver.execute_script(_axe())
    return [
        f"{violation['id']}: {node['html']} ({node['failureSummary']})"
        for violation in driver.execute_async_script(RUN_AXE, within)
        for node in violation["nodes"]
    ]


@cache
def _axe() -> str:
    # The package is found, not imported: only the script that it brings along is used.
    found = find_spec("axe_selenium_python")
    if found is None or found.origin is None:
        if sys.version_info < (3, 12):
            pytest.skip("axe-selenium-python needs Python 3.12")
        missing("axe-selenium-python")
    path = Path(found.origin).parent / "node_modules" / "axe-core" / "axe.min.js"
    return path.read_text(encoding="utf-8")
