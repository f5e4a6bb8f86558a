"""The tests' settings, with what Django's own tests of sessions need."""

from __future__ import annotations

import os
import sys

from ..settings import *  # noqa: F403
from ..settings import INSTALLED_APPS

sys.path.insert(0, os.path.join(os.environ["DJANGO_SUITE_SOURCE"], "tests"))

# The admin would ask for more settings, and Django's tests ask for no admin.
INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "django.contrib.admin"]
INSTALLED_APPS += ["sessions_tests"]
# As in Django's own runs.
USE_TZ = False
SESSION_ENGINE = os.environ["DJANGO_SUITE_ENGINE"]
DIRIGIBLE_SESSION_REDIS_URL = os.environ.get("DJANGO_SUITE_REDIS_URL")
