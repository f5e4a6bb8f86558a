from __future__ import annotations

import pytest

from ..contract import RivalContract

pytestmark = pytest.mark.django_db


class TestDb(RivalContract):
    engine = "dirigible_session.backends.db"
