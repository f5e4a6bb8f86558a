from __future__ import annotations

import pytest

from ..contract import EngineContract

pytestmark = pytest.mark.django_db


class TestDb(EngineContract):
    engine = "dirigible_session.backends.db"
