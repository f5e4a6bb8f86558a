"""When sessions were created or last accessed, in buckets."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dirigible_session.inspection import Inspector, Selection, histogram
from dirigible_session.inspection.histogram import MOST_BUCKETS, Tally

NOW = datetime(2026, 3, 1, 12, 30, 40, tzinfo=timezone.utc).timestamp()
MINUTE, HOUR, DAY = 60, 3600, 86400


def tally(*moments):
    counted = Tally(NOW)
    for moment in moments:
        counted.add(moment)
    return counted.histogram()


def test_nothing_makes_no_buckets():
    assert tally() == histogram.Histogram((), 0)


def test_moments_close_together_are_counted_by_the_minute():
    buckets = tally(NOW, NOW - 10, NOW - 3 * MINUTE).buckets
    assert [bucket.count for bucket in buckets] == [1, 0, 0, 2]
    assert buckets[0].start == datetime(2026, 3, 1, 12, 27, tzinfo=timezone.utc)
    assert buckets[0].end - buckets[0].start == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("span", "width"),
    [
        (39 * MINUTE, 60),
        (41 * MINUTE, 300),
        (20 * HOUR, 3600),
        (20 * DAY, DAY),
        (400 * DAY, 2419200),
    ],
)
def test_the_width_grows_with_the_span(span, width):
    buckets = tally(NOW, NOW - span).buckets
    assert (buckets[0].end - buckets[0].start).total_seconds() == width
    assert sum(bucket.count for bucket in buckets) == 2


@pytest.mark.parametrize("moment", [None, -1, NOW + 2 * DAY, 1e300, float("nan"), True])
def test_moments_that_can_not_be_true_are_unknown(moment):
    assert tally(moment, NOW) == histogram.Histogram(tally(NOW).buckets, 1)


@given(st.lists(st.floats(0, NOW), max_size=200))
def test_all_moments_are_in_a_few_buckets_without_gaps(moments):
    buckets = tally(*moments).buckets
    assert len(buckets) <= MOST_BUCKETS
    assert sum(bucket.count for bucket in buckets) == len(moments)
    assert all(one.end == following.start for one, following in pairwise(buckets))
    if moments:
        assert buckets[0].count > 0
        assert buckets[-1].count > 0
        assert buckets[0].start.timestamp() <= min(moments)
        assert buckets[-1].end.timestamp() > max(moments)


def test_a_summary_has_histograms(use_engine, store, clock):
    use_engine("db")
    for minutes in (0, 1, 30):
        moment = clock.now - minutes * MINUTE
        store({"_dirigible": {"created": clock.now - DAY, "accessed": moment}})
    store(n=1)
    summary = Inspector().summary()
    assert sum(bucket.count for bucket in summary.created.buckets) == 3
    assert sum(bucket.count for bucket in summary.last_accessed.buckets) == 3
    assert summary.created.unknown == summary.last_accessed.unknown == 1
    assert (summary.read, summary.is_complete) == (4, True)


def test_a_summary_tells_what_part_was_read(use_engine, store):
    use_engine("db")
    for n in range(3):
        store(n=n)
    summary = Inspector().summary(seconds=-1.0)
    assert (summary.read, summary.active, summary.is_complete) == (1, 1, False)
    everything = Inspector().summary(Selection(anonymous=True), seconds=60)
    assert (everything.read, everything.active, everything.is_complete) == (3, 3, True)
