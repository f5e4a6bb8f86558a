"""How Sphinx builds the site."""

from __future__ import annotations

import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

import django
from django.conf import settings

import dirigible_session

settings.configure(
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "dirigible_session",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    SECRET_KEY="docs",
    USE_TZ=True,
)
django.setup()

metadata = ConfigParser()
metadata.read(ROOT / "setup.cfg")
addresses = dict(
    map(str.strip, line.split("=", 1))
    for line in metadata["metadata"]["project_urls"].strip().splitlines()
)

project = "dirigible_session"
author = metadata["metadata"]["author"]
copyright = f"2026, {author}"
version = release = dirigible_session.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
# Names of other projects are not links.
nitpicky = False

html_theme = "furo"
html_title = f"dirigible_session {release}"
html_theme_options = {
    "source_repository": addresses["Source"],
    "source_branch": "main",
    "source_directory": "docs/",
}


def skip_second_spelling(app, what, name, obj, skip, options):
    """Leave out Dirigible's spelling of a function: it is the same function."""
    short = name.rpartition(".")[2]
    if what == "module" and getattr(obj, "__name__", short) != short:
        return True
    return skip


def setup(app):
    """Connect what is above."""
    app.connect("autodoc-skip-member", skip_second_spelling)
