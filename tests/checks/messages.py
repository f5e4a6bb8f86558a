"""What the system checks of the package say of the settings in force."""

from __future__ import annotations

from django.core import checks


def messages(**kwargs):
    found = [
        message
        for message in checks.run_checks(**kwargs)
        if (message.id or "").startswith("dirigible_session.")
    ]
    assert all(message.hint for message in found)
    return found


def ids(**kwargs):
    return [message.id.removeprefix("dirigible_session.") for message in messages(**kwargs)]
