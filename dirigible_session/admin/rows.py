"""A session as the pages show it: times in the site's time zone, user, attributes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.contrib.admin.utils import quote
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext, gettext_noop, ngettext
from django.utils.translation import gettext_lazy as _

from dirigible_session.inspection import SessionRecord, Summary, display
from dirigible_session.inspection.users import Usernames, user_model

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite
    from django.http import HttpRequest

#: The limits of a page: attributes, characters in a name, in a value, and in all of them.
MOST_ATTRIBUTES = 200
LONGEST_NAME = 100
LONGEST_VALUE = 10_000
MOST_CHARACTERS = 100_000

_SOME_DAY = datetime(2001, 1, 1)
#: Longer times are shown in seconds only: ``timedelta`` can't be added to a date beyond this.
_YEARS = 1000 * 365 * 86400

#: The number of attribute names in a summary.
MOST_NAMES = 100

#: The reasons why a session is unreadable, from the readers and engines. They are marked for
#: translation here, because the commands show them untranslated. An exception or other detail may
#: follow: " (ValueError)", ": ValueError".
REASONS = (
    gettext_noop("damaged"),
    gettext_noop("damaged: a column has a value of the wrong type"),
    gettext_noop("expiry can't be read"),
    gettext_noop("file can't be read"),
    gettext_noop("file is not text"),
    gettext_noop("key is not text"),
    gettext_noop("payload can't be decoded"),
    gettext_noop("payload is not a dict"),
    gettext_noop("signature does not match: signed with another key, or altered"),
    gettext_noop("expiry is neither a number nor a date"),
    gettext_noop("row can't be read"),
    gettext_noop("the data of the row is not text"),
    gettext_noop("value can't be decoded"),
    gettext_noop("value is not a dict"),
)

STATES = {"active": _("active"), "expired": _("expired"), "unreadable": _("unreadable")}


@dataclass(frozen=True)
class Row:
    """A session in the templates."""

    record: SessionRecord
    address: str
    #: The address of its user's page; "" if there is none or it may not be seen.
    user_address: str
    #: Whether it is the session of the current request.
    is_own: bool

    @property
    def state(self) -> Any:
        """Return the state in the language of the page."""
        return STATES[self.record.state]

    @property
    def user(self) -> str:
        """Return the username, or the primary key of a deleted user."""
        record = self.record
        if record.user_id is None:
            return ""
        if record.username is None:
            return gettext("%(key)s (no such user)") % {
                "key": display.shortened(record.user_id, 40)
            }
        return display.shortened(record.username, 100)

    @property
    def error(self) -> str:
        """Return the reason why it is unreadable, in the language of the page; "" if readable.

        A detail, such as the name of an exception, is not translated.
        """
        error = display.harmless(self.record.error)
        for reason in (error, error.partition(" (")[0], error.partition(": ")[0]):
            if reason in REASONS:
                return gettext(reason) + error[len(reason) :]
        return error and f"{gettext('damaged')}: {error}"

    @property
    def created(self) -> datetime | None:
        """Return its creation time in the site's time zone; None if unknown."""
        return local(self.record.created)

    @property
    def last_accessed(self) -> datetime | None:
        """Return the time of its client's last request in the site's time zone."""
        return local(self.record.last_accessed)

    @property
    def expires(self) -> datetime | None:
        """Return the time of its end in the site's time zone; None if never or unknown."""
        return local(self.record.expires)

    @property
    def never_expires(self) -> bool:
        """Return whether it never times out."""
        return self.record.expires is None and self.record.state == "active"


def local(moment: datetime | None) -> datetime | None:
    """Return a datetime in the site's time zone."""
    try:
        return None if moment is None else timezone.localtime(moment)
    except (ValueError, OverflowError):
        # In the site's zone it is before year 1 or after year 9999.
        return moment


def idle_limit(record: SessionRecord) -> str:
    """Return the max inactive interval of the session in words; "-" if unknown."""
    seconds = record.max_inactive_interval
    if seconds is None:
        return "-"
    if seconds <= 0:
        return gettext("never times out")
    text = ngettext("%(seconds)d second", "%(seconds)d seconds", seconds) % {"seconds": seconds}
    if 60 <= seconds < _YEARS:
        # In larger units, such as "2 weeks".
        text += f" ({timesince(_SOME_DAY, _SOME_DAY + timedelta(seconds=seconds))})"
    return text


def attributes_shown(record: SessionRecord) -> tuple[list[tuple[str, str]], int]:
    """Return the attributes that fit on a page as text, and the number of the others."""
    shown: list[tuple[str, str]] = []
    left = MOST_CHARACTERS
    for name, value in record.attributes.items():
        if len(shown) == MOST_ATTRIBUTES or left <= 0:
            break
        text = display.value_in_short(value, min(LONGEST_VALUE, left))
        shown.append((display.shortened(name, LONGEST_NAME), text))
        left -= len(name) + len(text)
    return shown, len(record.attributes) - len(shown)


def names_shown(summary: Summary) -> tuple[list[tuple[str, int]], int]:
    """Return the most frequent attribute names with their counts, and the number of the others."""
    most = islice(summary.attributes.items(), MOST_NAMES)
    shown = [(display.shortened(name, LONGEST_NAME), count) for name, count in most]
    return shown, len(summary.attributes) - len(shown)


class Users:
    """Usernames, and the addresses of the users' pages in the admin, if they may be seen."""

    def __init__(self, site: AdminSite, request: HttpRequest) -> None:
        self._site, self._change = site, ""
        model = user_model()
        if model is None or not site.is_registered(model):
            return
        if site.get_model_admin(model).has_view_permission(request):
            self._change = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"

    def address(self, user_id: str | None) -> str:
        """Return the address of a user's page; "" if there is none."""
        if not self._change or not user_id:
            return ""
        try:
            return reverse(self._change, args=[quote(user_id)], current_app=self._site.name)
        except NoReverseMatch:
            return ""

    def name(self, user_id: str) -> str:
        """Return a username, or the primary key of a deleted user."""
        return self.named([user_id])[0][1] if user_id else ""

    def named(self, user_ids: Sequence[str]) -> list[tuple[str, str]]:
        """Return each primary key with the username, or with itself for a deleted user."""
        names = self.names(user_ids)
        shown = [user_id if (name := names[user_id]) is None else name for user_id in user_ids]
        return [(i, display.shortened(name, 100)) for i, name in zip(user_ids, shown, strict=True)]

    @staticmethod
    def names(user_ids: Iterable[str]) -> dict[str, str | None]:
        """Return the usernames by primary key; None for a deleted user."""
        return Usernames().look_up(user_ids)
