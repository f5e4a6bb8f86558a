"""What is published: its metadata, its files, and the addresses in it."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

import dirigible_session

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def config() -> ConfigParser:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def test_the_changelog_tells_of_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(dirigible_session.__version__)}\] - \d", changelog, re.M)


def test_only_django_is_required(config):
    assert config["options"]["install_requires"].split() == ["Django>=5.2"]


def test_the_addresses_are_those_in_setup_cfg():
    command = [sys.executable, str(ROOT / ".ci" / "addresses.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0


def test_links_and_pictures_of_the_readme_work_on_a_package_index():
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"\]\(([^)]+)\)", readme) + re.findall(r'(?:src|href)="([^"]+)"', readme)
    assert targets
    assert not [target for target in targets if not target.startswith(("https://", "#"))]


def test_what_the_readme_links_to_is_there(config):
    readme = (ROOT / "README.md").read_text()
    for page in re.findall(r"/en/stable/([\w/-]+)\.html", readme):
        assert (ROOT / "docs" / f"{page}.md").exists(), page
    for path in re.findall(r"/(?:blob|raw)/main/([^)\"\s]+)", readme):
        assert (ROOT / path).exists(), path


def test_actions_are_pinned_to_commits():
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        for action in re.findall(r"uses: (.+)", workflow.read_text()):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action), action
