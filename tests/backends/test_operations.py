"""The changes of a save, applied to the state that is stored by then; without a store."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dirigible_session.backends.mapping import NO_CHANGE
from dirigible_session.backends.operations import Change
from dirigible_session.lifecycle import Times

pytestmark = pytest.mark.quick

READ = Times(1.0, 2.0)
NOTHING = Times(0.0, 0.0)


def stored(times: Times, error: str = "") -> Any:
    return SimpleNamespace(times=times, error=error)


@pytest.mark.parametrize(
    ("loaded", "found", "expected"),
    [
        (stored(READ), stored(Times(1.0, 3.0, -5, 2.5)), Times(1.0, 4.0, -5, 2.5)),
        # A request that cleared the session without loading it wants no interval and no login.
        (None, stored(Times(1.0, 3.0, -5, 2.5)), Times(1.0, 4.0)),
        # The times of a damaged record say nothing.
        (stored(READ), stored(NOTHING, "damaged"), Times(7.0, 4.0)),
        (stored(NOTHING, "damaged"), stored(NOTHING, "damaged"), Times(7.0, 4.0)),
        # A rival has repaired it.
        (stored(NOTHING, "damaged"), stored(Times(1.0, 3.0, -5, 2.5)), Times(1.0, 4.0, -5, 2.5)),
    ],
)
def test_the_times_of_a_rival_count_unless_they_are_damaged(
    loaded: Any, found: Any, expected: Times
) -> None:
    change = Change(NO_CHANGE, Times(7.0, 4.0), loaded)
    assert change.times_over(found) == expected
