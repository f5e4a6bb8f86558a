"""Each recipe of ``docs/recipes.md`` does what it says, as it stands there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core import mail
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path

from dirigible_session import session
from dirigible_session.handles import digest
from dirigible_session.testing import let_time_pass, stored_session
from dirigible_session.users import sessions_of

from .docs.blocks import DOCS, Block, blocks_of
from .docs.running import is_setting, module_named, receivers_restored

BLOCKS = list(blocks_of(DOCS / "recipes.md"))
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1"


def log_in(request: HttpRequest) -> HttpResponse:
    from django.contrib.auth import login

    login(request, get_user_model().objects.get(username=request.GET["user"]))
    return HttpResponse(session.get_id())


def read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.user.get_username()} {session.get_attribute_names()}")


urlpatterns = [path("login/", log_in, name="login"), path("read/", read)]


class Kitchen:
    """Follows recipes, each block a module of its own."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        settings.ROOT_URLCONF = __name__
        settings.LOGIN_URL = "login"
        settings.SESSION_ENGINE = "dirigible_session.backends.db"
        # Django 6.1 warns of its default.
        settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}

    def follow(self, *paths: str) -> Any:
        """Run the blocks of these files and return the last one's module."""
        module = None
        for wanted in paths:
            (block,) = (block for block in BLOCKS if block.path == wanted)
            module = module_named(wanted.removesuffix(".py").replace("/", "."))
            exec(compile(block.code, str(block), "exec"), vars(module))
        return module

    def set_up(self, block: Block) -> None:
        """Change settings as a block says."""
        values: dict[str, Any] = {}
        exec(compile(block.code, str(block), "exec"), values)
        for name in filter(is_setting, values):
            setattr(self._settings, name, values[name])

    def serve(self, *more: Any) -> None:
        """Serve more views."""
        urlpatterns[2:] = more


@pytest.fixture
def kitchen(settings: Any, db: None) -> Iterator[Kitchen]:
    with receivers_restored():
        yield Kitchen(settings)
    del urlpatterns[2:]


@pytest.fixture
def ada(db: None) -> Any:
    return get_user_model().objects.create_user("ada", "ada@example.org", "engine")


def browser(user: Any = None, agent: str = FIREFOX) -> Client:
    client = Client(headers={"User-Agent": agent})
    if user is not None:
        client.get("/login/", {"user": user.get_username()})
    return client


def is_logged_in(client: Client) -> bool:
    return client.get("/read/").content.startswith(b"ada")


def key_of(client: Client) -> str:
    return client.cookies["sessionid"].value


def settings_blocks() -> list[Block]:
    return [block for block in BLOCKS if block.path == "mysite/settings.py"]


class TestWhereYouAreLoggedIn:
    @pytest.fixture(autouse=True)
    def _site(self, kitchen: Kitchen, settings: Any, tmp_path: Any) -> None:
        urls = kitchen.follow("shop/devices.py", "shop/sessions.py", "shop/urls.py")
        kitchen.serve(path("", include(urls.urlpatterns)))
        (page,) = (block for block in BLOCKS if block.language == "html+django")
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop" / "sessions.html").write_text(page.code)
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [str(tmp_path)]}]

    def test_the_page_tells_sessions_apart(self, ada):
        here, there = browser(ada), browser(ada, SAFARI)
        html = here.get("/sessions/").content.decode()
        assert "Firefox on Linux (this one)" in " ".join(html.split())
        assert "Safari on iPhone," in html
        assert f'value="{digest(key_of(there))}"' in html
        assert key_of(here) not in html

    def test_one_is_signed_out(self, ada):
        here, there = browser(ada), browser(ada, SAFARI)
        answer = here.post("/sessions/end/", {"handle": digest(key_of(there))})
        assert answer.url == "/sessions/"
        assert (is_logged_in(here), is_logged_in(there)) == (True, False)

    def test_the_others_are_signed_out(self, ada):
        here, *others = (browser(ada) for _ in range(3))
        here.post("/sessions/end-others/")
        assert is_logged_in(here)
        assert not any(map(is_logged_in, others))

    def test_who_signs_out_here_is_sent_to_the_login(self, ada):
        here = browser(ada)
        here.post("/sessions/end/", {"handle": digest(key_of(here))})
        assert here.get("/sessions/").url.startswith("/login/")


def test_the_password_is_asked_again(kitchen, ada):
    account = kitchen.follow("shop/confirm.py", "shop/account.py")
    kitchen.serve(path("account/", account.account))
    client = browser(ada)
    assert client.get("/account/").content == b"Your account"
    let_time_pass(client, minutes=11)
    assert client.get("/account/").url == "/login/?next=/account/"
    key = key_of(client)
    client.get("/login/", {"user": "ada"})
    assert client.get("/account/").content == b"Your account"
    assert key_of(client) == key


def test_a_user_is_signed_out_everywhere(kitchen, ada):
    clients = browser(ada), browser(ada)
    assert kitchen.follow("shop/security.py").sign_out_everywhere(ada) == 2
    assert not any(map(is_logged_in, clients))


def test_a_fourth_device_signs_out_the_first_and_tells(kitchen, ada):
    kitchen.follow("shop/devices.py", "shop/limits.py", "shop/notices.py")
    kitchen.set_up(settings_blocks()[0])
    clients = [browser(ada, agent) for agent in (SAFARI, FIREFOX, FIREFOX, FIREFOX)]
    assert [is_logged_in(client) for client in clients] == [False, True, True, True]
    assert [message.body for message in mail.outbox] == ["You were signed out on Safari on iPhone."]
    ada.is_superuser = True
    ada.save()
    browser(ada)
    assert len(sessions_of(ada)) == 4


@pytest.mark.parametrize("leave", ["delete", "deactivate", "update"])
def test_the_sessions_end_with_the_user(kitchen, ada, leave):
    leaving = kitchen.follow("shop/leaving.py")
    kitchen.set_up(settings_blocks()[1])
    browser(ada)
    pk = ada.pk
    if leave == "delete":
        ada.delete()
    elif leave == "deactivate":
        ada.is_active = False
        ada.save()
    else:
        leaving.deactivate(get_user_model().objects.filter(pk=pk))
    assert sessions_of(pk) == []


def test_a_new_device_is_told_by_mail(kitchen, ada):
    kitchen.follow("shop/devices.py", "shop/mails.py")
    browser(ada)
    browser(ada)
    assert not mail.outbox
    browser(ada, SAFARI)
    (message,) = mail.outbox
    assert message.to == ["ada@example.org"]
    assert message.body == "You have just logged in with Safari on iPhone."


def test_cashiers_idle_for_a_quarter_of_an_hour(kitchen, ada):
    kitchen.follow("shop/idle.py")
    other = browser(ada)
    ada.groups.add(Group.objects.create(name="cashiers"))
    cashier = browser(ada)
    for client, interval in ((other, 14 * 86400), (cashier, 900)):
        with stored_session(client):
            assert session.get_max_inactive_interval() == interval


def test_the_count_down_does_not_make_the_session_last(kitchen, ada):
    kitchen.serve(path("time-left/", kitchen.follow("shop/countdown.py").time_left))
    client = browser(ada)
    with stored_session(client):
        session.set_max_inactive_interval(600)
    let_time_pass(client, seconds=400)
    for _ in range(2):
        assert 195 <= client.get("/time-left/").json()["seconds"] <= 200
    let_time_pass(client, seconds=201)
    assert not is_logged_in(client)


def test_the_id_changes_at_a_repeated_login(kitchen, ada):
    kitchen.follow("shop/rotation.py")
    client = browser(ada)
    with stored_session(client):
        session.set_attribute("cart", ["tea"])
    old = browser()
    old.cookies["sessionid"] = key_of(client)
    client.get("/login/", {"user": "ada"})
    assert key_of(client) != key_of(old)
    assert client.get("/read/").content == b"ada ['cart']"
    assert not is_logged_in(old)
