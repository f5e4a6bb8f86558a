"""Whatever a session holds, it is shown, and the others are."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dirigible_session.inspection import formats
from dirigible_session.inspection.records import Reporter, summarized
from dirigible_session.inspection.selection import AttributeFilter, Selection
from dirigible_session.lifecycle import COOKIE_LIFETIME, LAST_DATE, TIMES_KEY, Times
from dirigible_session.management.table import Table, histogram_lines, summary_lines
from dirigible_session.stored import StoredSession

NOW = 1_800_000_000.0

NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, -(10**400), COOKIE_LIFETIME, LAST_DATE, 0, -1, NOW, True]),
)
VALUES = st.recursive(
    st.one_of(st.none(), NUMBERS, st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
TIMES = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("created", "accessed", "interval", "authenticated"), VALUES)
)
DATES = st.one_of(st.datetimes().map(datetime.isoformat), st.text("0123456789-T:.Z", max_size=30))
DATA = st.fixed_dictionaries(
    {},
    optional={
        "_session_expiry": st.one_of(VALUES, DATES),
        TIMES_KEY: st.one_of(TIMES, VALUES),
        "_auth_user_id": VALUES,
        "_dirigible_browser_close": VALUES,
        "n": VALUES,
        "\x1b[2Jtoken": VALUES,
    },
)
MOMENTS = st.one_of(st.none(), st.floats(0, NOW * 2), st.sampled_from([1e300, -1e300]))


@pytest.mark.parametrize("absolute_timeout", [None, 3600])
@given(data=DATA, expires=MOMENTS, reveal=st.booleans())
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_a_session_holds_it_is_shown(absolute_timeout, data, expires, reveal, db):
    reporter = Reporter(cookie_age=1209600, now=NOW, reveal=reveal)
    reporter._absolute_timeout = absolute_timeout
    times = Times.from_record(data.get(TIMES_KEY))
    stored = reporter.judge(StoredSession("a" * 40, data, times, expires, 10))
    assert stored.state in ("active", "expired", "unreadable")
    for wanted in (
        Selection(state="all"),
        Selection(user_id="7", idle_over=5, idle_under=50),
        Selection(attributes=(AttributeFilter("n", "1"),)),
    ):
        wanted.matches(stored, NOW)
        list(wanted.first([stored]))
    record = reporter.record(stored, None)
    assert json.loads("".join(formats.json_list([record], reveal=reveal)))
    (titles, row) = csv.reader(io.StringIO("".join(formats.csv_lines([record], reveal=reveal))))
    assert len(titles) == len(row)
    moment = datetime.fromtimestamp(NOW, timezone.utc)
    lines = list(Table(now=moment, reveal=reveal, width=100).lines([record]))
    assert len(lines) == 2
    assert lines[1][:-1].isprintable()
    summary = summarized([stored], NOW)
    json.loads(formats.SUMMARY_FORMATS["json"](summary))
    drawn = summary_lines(summary, moment) + "".join(
        histogram_lines("created", summary.created, width=80, block="#")
    )
    assert all(line.isprintable() for line in drawn.splitlines())
