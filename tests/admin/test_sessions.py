"""The list, the page of one session, and what ends sessions, on each engine."""

from __future__ import annotations

import re
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils.formats import date_format

from dirigible_session import handles
from dirigible_session.inspection.readers.database import DatabaseReader
from dirigible_session.lifecycle import COOKIE_LIFETIME, EXPIRY_KEY
from dirigible_session.models import Session
from dirigible_session.signals import Reason, session_invalidated

from .conftest import Pages
from .reading import handles_on, html_of, link
from .urls import SESSIONS

USERS = "/admin/auth/user/"


def handle_of(session: Any) -> str:
    return handles.handle(session.session_key)


def digest_of(session: Any) -> str:
    return handles.digest(session.session_key)


# The list.


def test_the_list_shows_the_sessions_of_the_engine(any_engine, store, user, pages):
    session = store({"_auth_user_id": str(user.pk)}, cart=["tea"])
    page = pages.get()
    assert handle_of(session) in handles_on(page)
    assert len(handles_on(page)) == 2
    html = html_of(page)
    assert f'<a href="{USERS}{user.pk}/change/">ada</a>' in html
    assert "(yours)" in html
    assert session.session_key not in html
    assert pages.client.cookies["sessionid"].value not in html


def test_a_user_who_is_gone_is_shown_by_primary_key(own_db, store, pages):
    store({"_auth_user_id": "4711"})
    assert "4711 (no such user)" in html_of(pages.get())


def test_who_may_not_see_users_gets_no_link_to_them(own_db, store, user, staff):
    store({"_auth_user_id": str(user.pk)})
    html = html_of(Pages(staff("view_session")).get())
    assert "ada" in html
    assert USERS not in html


def test_times_are_in_the_zone_of_the_site(own_db, store, pages, settings, clock):
    settings.TIME_ZONE = "Asia/Tokyo"
    store()
    there = clock.datetime().astimezone(ZoneInfo("Asia/Tokyo"))
    shown = date_format(there, "DATETIME_FORMAT")
    assert html_of(pages.get()).count(f'<td class="field-created">{shown}</td>') == 2


def test_pages_follow_each_other(any_engine, store, pages, monkeypatch):
    monkeypatch.setattr("dirigible_session.admin.sessions.SessionAdmin.list_per_page", 3)
    stored = {handle_of(store(n=n)) for n in range(7)}
    seen: list[str] = []
    page = pages.get()
    for _ in range(10):
        seen += handles_on(page)
        if "Next page" not in html_of(page):
            break
        page = pages.client.get(SESSIONS + link(page, "Next page"))
        assert "First page" in html_of(page)
    assert len(seen) == len(set(seen)) == 8
    assert stored < set(seen)


def test_filters_choose(any_engine, store, user, pages, clock):
    nobodys = store(n=1)
    hers = store({"_auth_user_id": str(user.pk)}, n=2)
    assert handles_on(pages.get(user=str(user.pk))) == [handle_of(hers)]
    assert handles_on(pages.get(anonymous="1")) == [handle_of(nobodys)]
    assert handles_on(pages.get(handle=handle_of(hers)[:6])) == [handle_of(hers)]
    assert handles_on(pages.get(state="expired")) == []
    assert len(handles_on(pages.get(state="active"))) == 3


def test_idle_time_chooses(own_db, store, pages, clock):
    old = store(n=1)
    clock.tick(hours=2)
    new = store(n=2)
    assert handles_on(pages.get(idle_over="1h", anonymous="1")) == [handle_of(old)]
    assert handles_on(pages.get(idle_under="15m", anonymous="1")) == [handle_of(new)]


def test_filters_are_links_that_keep_the_others(own_db, store, user, pages):
    page = pages.get(user=str(user.pk), state="active", after="")
    assert link(page, "Expired") == f"?state=expired&user={user.pk}"
    assert link(page, "Nobody logged in") == "?state=active&anonymous=1"
    assert 'aria-current="true">ada</a>' in html_of(page)
    assert link(page, "More than 1 day") == f"?state=active&user={user.pk}&idle_over=1d"


@pytest.mark.parametrize(
    "query",
    [
        {"session_data__contains": "secret"},
        {"session_data__regex": "(a+)+$"},
        {"user_id__startswith": "1"},
        {"digest": "0"},
        {"q": "secret"},
    ],
)
def test_no_other_look_up_reaches_a_session(own_db, store, pages, query):
    store(api_token="secret")
    plain, asked = pages.get(), pages.get(**query)
    assert handles_on(asked) == handles_on(plain)
    assert len(handles_on(asked)) == 2


@pytest.mark.parametrize(
    "query",
    [
        {"state": "unreadable"},
        {"idle_over": "soon"},
        {"handle": "xyz"},
        {"handle": "a" * 13},
        {"anonymous": "yes"},
        {"anonymous": "1", "user": "1"},
        {"read": "-1"},
        {"after": "forged"},
    ],
)
def test_a_filter_that_makes_no_sense_leads_to_the_whole_list(own_db, pages, query):
    response = pages.get(**query)
    assert response.status_code == 302
    assert response["Location"] == SESSIONS
    assert "The parameters in the address were not valid" in html_of(pages.get())


# The search.


def test_a_search_finds_by_key_and_tells_nobody_the_key(any_engine, store, pages):
    session = store(n=1)
    page = pages.search(f" {session.session_key} ")
    assert page.redirect_chain == [(f"{SESSIONS}{digest_of(session)}/change/", 302)]
    assert handle_of(session) in html_of(page)
    assert session.session_key not in html_of(page)


@pytest.mark.parametrize("digits", [4, 12, 40])
def test_a_search_finds_by_handle(any_engine, store, pages, digits):
    session = store(n=1)
    page = pages.search(digest_of(session)[:digits].upper())
    assert handle_of(session) in html_of(page)


def test_a_search_finds_by_username(any_engine, store, user, pages):
    session = store({"_auth_user_id": str(user.pk)})
    store(n=1)
    page = pages.search("ada")
    assert page.redirect_chain == [(f"{SESSIONS}?user={user.pk}", 302)]
    assert handles_on(page) == [handle_of(session)]


def test_a_username_may_look_like_a_handle(own_db, store, pages):
    user = get_user_model().objects.create_user("beef")
    page = pages.search("beef")
    assert page.redirect_chain == [(f"{SESSIONS}?user={user.pk}", 302)]
    assert link(page, "Show the sessions whose handles begin with these digits.") == (
        f"{SESSIONS}?handle=beef"
    )


@pytest.mark.parametrize("term", ["nobody", "f" * 32, "\0", "😀", "x" * 5000, "7"])
def test_a_search_that_finds_nothing_repeats_nothing(any_engine, pages, term):
    page = pages.search(term)
    assert page.redirect_chain == [(SESSIONS, 302)]
    assert "No session has this handle or key, and no user has this name." in html_of(page)
    assert len(term) < 9 or term not in html_of(page)


def test_a_search_that_would_take_long_asks_for_a_handle(stock_db, store, pages, monkeypatch):
    monkeypatch.setattr("dirigible_session.admin.SessionAdmin.seconds", 0)
    for n in range(3):
        store(n=n)
    html = html_of(pages.search("0" * 40))
    assert "This search would take long. Search for the first 12 digits" in html


def test_an_empty_search_shows_the_list(own_db, pages):
    assert pages.search(" ").redirect_chain == [(SESSIONS, 302)]


# One session.


def test_a_session_is_shown_with_its_secrets_as_stars(any_engine, store, user, pages):
    session = store({"_auth_user_id": str(user.pk)}, cart=["<b>tea</b>"], api_token="hush")
    page = pages.get(f"{digest_of(session)}/change/")
    html = html_of(page)
    assert "&lt;b&gt;tea&lt;/b&gt;" in html
    assert "api_token" in html
    assert "hush" not in html
    assert session.session_key not in html
    assert "1209600 seconds" in html
    assert link(page, "All sessions of this user") == f"{SESSIONS}?user={user.pk}"


@pytest.mark.parametrize("page", ["change", "delete"])
def test_one_that_is_gone_is_told_on_the_list(any_engine, store, pages, page):
    session = store(n=1)
    digest = digest_of(session)
    session.delete()
    response = pages.client.get(f"{SESSIONS}{digest}/{page}/", follow=True)
    assert response.redirect_chain == [(SESSIONS, 302)]
    assert "does not exist any more" in html_of(response)
    assert "does not exist any more" in html_of(pages.post(f"{digest}/delete/", post="yes"))


def test_one_that_is_gone_from_its_page_is_looked_for_from_the_beginning(
    own_db, store, pages, monkeypatch
):
    monkeypatch.setattr("dirigible_session.admin.sessions.SessionAdmin.list_per_page", 1)
    store(n=1)
    page = pages.client.get(SESSIONS + link(pages.get(), "Next page"))
    (shown,) = handles_on(page)
    address = link(page, shown)
    assert "?after=" in address
    path = f"{'0' * 40}/change/?{address.partition('?')[2]}"
    response = pages.client.get(SESSIONS + path)
    assert response["Location"] == f"{SESSIONS}{'0' * 40}/change/"


def test_a_count_that_is_too_long_to_be_one_is_ignored(stock_db, store, pages, monkeypatch):
    monkeypatch.setattr("dirigible_session.admin.sessions.SessionAdmin.seconds", 0)
    for number in range(3):
        store(n=number)
    response = pages.get(f"{'0' * 40}/change/", read="9" * 5000)
    assert response.status_code == 200


def test_a_key_in_an_address_opens_nothing(own_db, store, pages):
    session = store(n=1)
    assert pages.get(f"{session.session_key}/change/").status_code == 302


def test_one_that_never_times_out_says_so(own_db, store, pages):
    digest = digest_of(store({EXPIRY_KEY: COOKIE_LIFETIME}))
    Session.objects.filter(digest=digest).update(expires=None, interval=0)
    html = html_of(pages.get(f"{digest}/change/"))
    assert "never times out" in html
    assert "never\n" in html


def test_an_end_beyond_all_dates_does_not_hide_the_rest(own_db, store, pages):
    Session.objects.filter(digest=digest_of(store())).update(expires=1e12)
    assert len(handles_on(pages.get())) == 2


def test_one_that_is_damaged_is_shown_as_such(own_db, store, pages):
    digest = digest_of(store(n=1))
    Session.objects.filter(pk=digest).update(session_data="{")
    assert "unreadable: " in html_of(pages.get(f"{digest}/change/"))
    assert digest[:12] in handles_on(pages.get())


# Ending.


def test_one_is_ended_after_a_question(any_engine, store, pages, receive):
    heard = receive(session_invalidated)
    session = store(n=1)
    digest = digest_of(session)
    question = pages.get(f"{digest}/delete/")
    assert handle_of(session) in html_of(question)
    assert session.session_key not in html_of(question)
    page = pages.post(f"{digest}/delete/", post="yes")
    assert "Ended 1 session." in html_of(page)
    assert not session.exists(session.session_key)
    ((_, named),) = heard
    assert (named["handle"], named["reason"]) == (digest[:12], Reason.OPERATOR)
    assert named["request"].path.endswith(f"{digest}/delete/")
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.object_repr) == (digest[:12], digest[:12])
    assert entry.is_deletion()


def test_those_selected_are_ended_after_a_question(any_engine, store, pages, receive):
    heard = receive(session_invalidated)
    sessions = [store(n=n) for n in range(3)]
    form = {
        "action": "delete_selected",
        "_selected_action": [digest_of(session) for session in sessions[:2]],
    }
    question = pages.post(index="0", **form)
    assert set(handles_on(question)) == {handle_of(session) for session in sessions[:2]}
    assert sessions[0].exists(sessions[0].session_key)
    sessions[1].delete()
    page = pages.post(post="yes", **form)
    assert "Ended 1 session." in html_of(page)
    assert handle_of(sessions[2]) in handles_on(page)
    assert handle_of(sessions[0]) not in handles_on(page)
    assert [named["handle"] for _, named in heard] == [handle_of(sessions[0])]
    assert heard[0][1]["request"].POST["action"] == "delete_selected"
    assert LogEntry.objects.get().object_repr == handle_of(sessions[0])


def test_all_of_a_user_are_ended(any_engine, store, user, pages, receive):
    heard = receive(session_invalidated)
    hers = [store({"_auth_user_id": str(user.pk)}, n=n) for n in range(3)]
    other = store(n=4)
    question = pages.get("end/", user=str(user.pk))
    assert "<li>ada</li>" in html_of(question)
    page = pages.post("end/", user=str(user.pk), post="yes")
    assert "Ended 3 sessions." in html_of(page)
    assert not any(session.exists(session.session_key) for session in hers)
    assert other.exists(other.session_key)
    assert {entry.object_repr for entry in LogEntry.objects.all()} == set(map(handle_of, hers))
    assert {named["request"].POST["user"] for _, named in heard} == {str(user.pk)}


def test_users_have_an_action_that_ends_their_sessions(any_engine, store, user, pages):
    hers = store({"_auth_user_id": str(user.pk)}, n=1)
    form = {"action": "end_sessions_of_users", "_selected_action": [str(user.pk)], "index": "0"}
    question = pages.client.post(USERS, form)
    assert "<li>ada</li>" in html_of(question)
    assert hers.exists(hers.session_key)
    pages.post("end/", user=str(user.pk), post="yes")
    assert not hers.exists(hers.session_key)


def test_the_action_is_offered_once_and_to_whom_it_is_allowed(own_db, staff, user, operator):
    option = '<option value="end_sessions_of_users">'
    assert html_of(operator.get(USERS)).count(option) == 1
    assert option not in html_of(staff("view_user", "view_session").get(USERS))
    assert option not in html_of(operator.get("/admin/auth/group/"))


def test_what_takes_too_long_goes_on(any_engine, store, user, pages, monkeypatch):
    monkeypatch.setattr("dirigible_session.admin.sessions.BATCH", 2)
    monkeypatch.setattr("dirigible_session.admin.sessions.SessionAdmin.seconds", 0)
    hers = [store({"_auth_user_id": str(user.pk)}, n=n) for n in range(5)]
    form = {"user": str(user.pk), "post": "yes"}
    page = pages.post("end/", **form)
    assert "Go on" in html_of(page)
    assert all(session.exists(session.session_key) for session in hers)


def test_an_end_of_no_user_leads_to_the_list(own_db, pages):
    response = pages.get("end/")
    assert (response.status_code, response["Location"]) == (302, SESSIONS)


def test_ones_own_session_can_be_ended(any_engine, pages):
    key = pages.client.cookies["sessionid"].value
    digest = handles.digest(key)
    assert "It is your own." in html_of(pages.get(f"{digest}/delete/"))
    response = pages.client.post(f"{SESSIONS}{digest}/delete/", {"post": "yes"})
    assert response.status_code == 302
    assert pages.get().status_code == 302
    assert LogEntry.objects.get().object_repr == digest[:12]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"action": "", "_selected_action": ["a" * 40]}, "No action selected."),
        ({"action": "delete_selected"}, "Items must be selected"),
        ({"action": "delete_selected", "_selected_action": ["../x"]}, "Items must be selected"),
    ],
)
def test_an_action_without_what_it_needs_says_so(own_db, pages, form, words):
    assert words in html_of(pages.post(**form))


# What the log has of an action that failed.


def logged() -> set[str]:
    return {entry.object_repr for entry in LogEntry.objects.all()}


def gone(sessions: Any) -> set[str]:
    return {handle_of(session) for session in sessions if not session.exists(session.session_key)}


@pytest.fixture
def second_fails(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that lets a method of a class fail at its second call."""

    def patch(owner: Any, name: str) -> None:
        works = getattr(owner, name)
        calls: list[Any] = []

        def fail(*args: Any) -> Any:
            calls.append(args)
            if len(calls) == 2:
                raise OSError("No space left")
            return works(*args)

        monkeypatch.setattr(owner, name, fail)

    return patch


def test_selected_sessions_that_ended_before_a_failure_are_logged(
    stock_db, store, pages, second_fails
):
    sessions = [store(n=n) for n in range(3)]
    second_fails(DatabaseReader, "delete")
    form = {"action": "delete_selected", "_selected_action": list(map(digest_of, sessions))}
    page = pages.post(post="yes", **form)
    assert page.status_code == 503
    assert "The store does not answer:" in html_of(page)
    assert "No space left" in html_of(page)
    assert "Ended 1 session." in html_of(page)
    assert len(gone(sessions)) == 1
    assert logged() == gone(sessions)


def test_sessions_of_a_user_that_ended_before_a_failure_are_logged(
    own_db, store, user, pages, monkeypatch, second_fails
):
    monkeypatch.setattr("dirigible_session.admin.sessions.BATCH", 2)
    hers = [store({"_auth_user_id": str(user.pk)}, n=n) for n in range(5)]
    second_fails(type(hers[0]), "end_stored")
    page = pages.post("end/", user=str(user.pk), post="yes", ended="3")
    assert page.status_code == 503
    assert "Ended 5 sessions." in html_of(page)
    assert len(gone(hers)) == 2
    assert logged() == gone(hers)


def test_a_session_that_the_store_keeps_is_not_logged(stock_db, store, pages, monkeypatch):
    sessions = [store(n=n) for n in range(3)]
    kept = sessions[1]
    delete = DatabaseReader.delete
    monkeypatch.setattr(
        DatabaseReader,
        "delete",
        lambda self, key: key != kept.session_key and delete(self, key),
    )
    monkeypatch.setattr(type(kept), "flush", lambda self: None)
    form = {"action": "delete_selected", "_selected_action": list(map(digest_of, sessions))}
    page = pages.post(post="yes", **form)
    assert f"The store did not delete {handle_of(kept)}." in html_of(page)
    assert "Ended 2 sessions." in html_of(page)
    assert logged() == gone(sessions) == {handle_of(sessions[0]), handle_of(sessions[2])}
    page = pages.post(f"{digest_of(kept)}/delete/", post="yes")
    assert f"The store did not delete {handle_of(kept)}." in html_of(page)
    assert len(logged()) == 2


def test_a_message_names_ten_of_the_sessions_that_were_kept(stock_db, store, pages, monkeypatch):
    sessions = [store(n=n) for n in range(11)]
    monkeypatch.setattr(DatabaseReader, "delete", lambda self, key: False)
    monkeypatch.setattr(type(sessions[0]), "flush", lambda self: None)
    form = {"action": "delete_selected", "_selected_action": list(map(digest_of, sessions))}
    html = html_of(pages.post(post="yes", **form))
    (named,) = re.findall(r"The store did not delete ([0-9a-f, ]*)…\.", html)
    assert len(named.split(", ")) == 10
    assert logged() == set()


# Permissions.


def test_nobody_adds_or_changes_one(own_db, store, pages):
    assert pages.get("add/").status_code == 403
    assert pages.post(f"{digest_of(store())}/change/", user_id="1").status_code == 403


def test_who_may_view_may_not_end(own_db, store, staff):
    session = store(n=1)
    pages = Pages(staff("view_session"))
    digest = digest_of(session)
    html = html_of(pages.get()) + html_of(pages.get(f"{digest}/change/"))
    assert "delete_selected" not in html
    assert "End this session" not in html
    assert pages.get(f"{digest}/delete/").status_code == 403
    assert pages.post(f"{digest}/delete/", post="yes").status_code == 403
    form = {"action": "delete_selected", "_selected_action": [digest], "post": "yes"}
    assert pages.post(**form).status_code == 403
    assert pages.get("end/", user="1").status_code == 403
    assert session.exists(session.session_key)


def test_who_may_only_end_sees_no_list(own_db, store, staff):
    session = store(n=1)
    pages = Pages(staff("delete_session"))
    assert pages.get().status_code == 403
    assert pages.get(f"{digest_of(session)}/change/").status_code == 403
    page = pages.post(f"{digest_of(session)}/delete/", post="yes")
    assert page.redirect_chain == [("/admin/", 302)]
    assert not session.exists(session.session_key)


def test_who_may_do_neither_sees_nothing(own_db, staff):
    pages = Pages(staff())
    assert pages.get().status_code == 403
    assert SESSIONS not in html_of(pages.client.get("/admin/"))


def test_the_index_of_the_admin_leads_to_the_list(own_db, operator):
    assert SESSIONS in html_of(operator.get("/admin/"))


# What can't be read.


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ("signed_cookies", "they are in their visitors"),
        ("cache", "a local-memory cache is in the memory of another process"),
    ],
)
def test_an_engine_that_cannot_be_listed_gets_a_page_that_says_why(use_engine, engine, reason, db):
    use_engine(engine)
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("op"))
    for path in ("", "0123456789ab/change/", "0123456789ab/delete/"):
        response = client.get(SESSIONS + path)
        assert response.status_code == 200
        assert reason in html_of(response)


def test_a_wrong_setting_gets_a_page_that_says_so(own_db, pages, settings):
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = "no.such.Filter"
    page = pages.get()
    assert page.status_code == 503
    assert "A setting is wrong:" in html_of(page)
    assert "DEFAULT_EXCEPTION_REPORTER_FILTER" in html_of(page)
