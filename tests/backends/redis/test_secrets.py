"""What a failed save leaves in tracebacks, which error reporters show with the local variables."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dirigible_session
from dirigible_session.backends.redis import operations
from dirigible_session.exceptions import SessionConflict, StoreUnavailable
from tests.redis_servers import running
from tests.stores import Api

from .sessions import loaded, new, store

SECRET = "s3cr3t-value"
PACKAGE = str(Path(dirigible_session.__file__).parent)


def shown(error: BaseException) -> str:
    """Return what an error reporter shows of our frames, of the causes too."""
    text = []
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename.startswith(PACKAGE):
                text += [f"{name} = {value!r}" for name, value in frame.f_locals.items()]
        text.append(str(error))
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return "\n".join(text)


@pytest.fixture
def failing(settings: Any) -> Iterator[Callable[..., Any]]:
    """Stores a session with a secret and lets its server die; the session is changed by then."""
    settings.SESSION_ENGINE = "dirigible_session.backends.redis"
    with running() as server:
        settings.DIRIGIBLE_SESSION_REDIS_URL = server.url

        def fail() -> Any:
            session = loaded(new(token=SECRET, nested={"a": [SECRET]}))
            session["token"] = SECRET + "2"
            session["nested"]["b"] = SECRET
            server.stop()
            return session

        yield fail


@pytest.mark.parametrize("step", ["save", "cycle_key", "touch", "load", "flush", "create"])
def test_no_value_and_no_key_is_shown_where_the_server_is_down(
    failing: Callable[..., Any], api: Api, step: str
) -> None:
    session = failing()
    key = session.session_key
    arguments = [session.times.accessed + 100] if step == "touch" else []
    with pytest.raises(StoreUnavailable) as raised:
        getattr(api, step)(session, *arguments)
    text = shown(raised.value)
    assert "calls = " in text
    assert SECRET not in text
    assert key not in text


def test_no_value_and_no_key_is_shown_of_a_conflict(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new(cart={"a": SECRET})
    session = store(key)
    session["cart"]["mine"] = SECRET
    run = redis_server.run
    monkeypatch.setattr(operations, "TRIES", 2)

    def run_late(calls: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(redis_server, "run", run)
            rival = store(key)
            rival["cart"][f"rival{len(rival['cart'])}"] = SECRET
            rival.save()
        return run(calls)

    monkeypatch.setattr(redis_server, "run", run_late)
    with pytest.raises(SessionConflict) as raised:
        session.save()
    text = shown(raised.value)
    assert "save = " in text
    assert SECRET not in text
    assert key not in text
