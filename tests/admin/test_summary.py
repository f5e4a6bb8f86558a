"""The counts and the pictures beside the list."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from dirigible_session.admin.picture import HEIGHT, WIDTH, Picture
from dirigible_session.inspection.histogram import Bucket, Histogram

from .reading import html_of, link
from .urls import SESSIONS

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)


def histogram(*counts: int, unknown: int = 0) -> Histogram:
    hour = timedelta(hours=1)
    buckets = (Bucket(NOON + n * hour, NOON + (n + 1) * hour, c) for n, c in enumerate(counts))
    return Histogram(tuple(buckets), unknown)


def test_it_counts_what_the_command_counts(any_engine, store, user, pages):
    store({"_auth_user_id": str(user.pk)}, cart=["tea"])
    store(cart=[])
    assert link(pages.get(), "Summary: counts, and when sessions were created and last accessed")
    html = html_of(pages.get("summary/"))
    assert "These are the counts of all sessions (3)." in html
    for name, count in (("Active", 3), ("Logged in", 2), ("Nobody logged in", 1), ("cart", 2)):
        assert f'<th scope="row">{name}</th><td>{count}</td>' in html
    assert html.count('<svg class="histogram"') >= 1


def test_a_part_is_said_to_be_one(own_db, store, pages, monkeypatch):
    monkeypatch.setattr("dirigible_session.admin.SessionAdmin.seconds", 0)
    for n in range(3):
        store(n=n)
    html = html_of(pages.get("summary/"))
    assert "These are the counts of the first sessions only (1)" in html
    assert "manage.py sessions_dump --summary" in html


def test_a_picture_says_in_words_what_it_shows(own_db, store, pages):
    store()
    html = html_of(pages.get("summary/"))
    for label in re.findall(r'<svg class="histogram"[^>]*aria-labelledby="([^"]*)"', html):
        for part in label.split():
            assert f'id="{part}"' in html
    assert "the highest bar is 2 sessions." in html
    assert html.count("<summary>The same as a table</summary>") == 2
    assert "<script" not in html.partition('id="content-main"')[2].partition("</main>")[0]


def test_bars_fill_the_picture():
    bars = list(Picture("p", "", histogram(1, 0, 4)).bars())
    assert [bar.height for bar in bars] == [HEIGHT / 4, 0, HEIGHT]
    assert all(bar.y + bar.height == HEIGHT for bar in bars)
    assert bars[-1].x + bars[-1].width < WIDTH


def test_a_bar_of_few_can_be_seen():
    assert next(Picture("p", "", histogram(1, 1_000_000)).bars()).height == 1


def test_nothing_known_is_no_picture(own_db, pages, store):
    assert not list(Picture("p", "", histogram(unknown=3)).bars())


def test_numbers_of_the_picture_are_no_words_of_a_language(own_db, store, pages, settings):
    settings.LANGUAGE_CODE = "de"
    for n in range(3):
        store(n=n)
    html = html_of(pages.get("summary/"))
    for attributes in re.findall(r"<rect ([^>]*)>", html):
        assert "," not in attributes


def test_the_list_leads_to_it_for_whoever_may_view(own_db, staff):
    client = staff("view_session")
    assert client.get(SESSIONS + "summary/").status_code == 200
    assert staff("delete_session", name="other").get(SESSIONS + "summary/").status_code == 403
