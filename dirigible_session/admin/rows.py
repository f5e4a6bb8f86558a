"""What the pages show of a session: its times in the site's zone, its user, its attributes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext, gettext_noop, ngettext
from django.utils.translation import gettext_lazy as _

from dirigible_session.inspection import SessionRecord, Summary, display
from dirigible_session.inspection.users import Usernames

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite
    from django.http import HttpRequest

#: What a page shows of a session at most: attributes, characters of a name, of a value, and of
#: all of them.
MOST_ATTRIBUTES = 200
LONGEST_NAME = 100
LONGEST_VALUE = 10_000
MOST_CHARACTERS = 100_000

_SOME_DAY = datetime(2001, 1, 1)
#: Longer times are said in seconds only: dates end.
_YEARS = 1000 * 365 * 86400

#: Names of attributes in a summary.
MOST_NAMES = 100

#: Why a session is unreadable, as the readers say it: marked for translation here.
REASONS = (
    gettext_noop("payload can't be decoded"),
    gettext_noop("payload is no dict"),
    gettext_noop("signature does not match: signed with another key, or altered"),
    gettext_noop("expiry is neither a number nor a date"),
)

STATES = {"active": _("active"), "expired": _("expired"), "unreadable": _("unreadable")}


@dataclass(frozen=True)
class Row:
    """A session, as the templates show it."""

    record: SessionRecord
    address: str
    #: The page of the user who is logged in, if it may be seen.
    user_address: str
    #: Whether it is the session of who looks.
    is_own: bool

    @property
    def state(self) -> Any:
        """Return the state in words."""
        return STATES[self.record.state]

    @property
    def user(self) -> str:
        """Return the username, or the primary key of a user who is gone."""
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
        """Return why it is unreadable; what is in brackets is the name of an exception."""
        reason, bracket, rest = display.harmless(self.record.error).partition(" (")
        return (gettext(reason) if reason else "") + bracket + rest

    @property
    def created(self) -> datetime | None:
        """Return when it was created, in the site's time zone."""
        return local(self.record.created)

    @property
    def last_accessed(self) -> datetime | None:
        """Return when its client last came, in the site's time zone."""
        return local(self.record.last_accessed)

    @property
    def expires(self) -> datetime | None:
        """Return when it ends, in the site's time zone; None: never, or unknown."""
        return local(self.record.expires)

    @property
    def never_expires(self) -> bool:
        """Return whether it never times out."""
        return self.record.expires is None and self.record.state == "active"


def local(moment: datetime | None) -> datetime | None:
    """Return a moment in the site's time zone."""
    try:
        return None if moment is None else timezone.localtime(moment)
    except (ValueError, OverflowError):
        # At the very end of what dates can say, another zone is beyond them.
        return moment


def idle_limit(record: SessionRecord) -> str:
    """Return how long the session may idle, in words."""
    seconds = record.max_inactive_interval
    if seconds is None:
        return "-"
    if seconds <= 0:
        return gettext("never times out")
    text = ngettext("%(seconds)d second", "%(seconds)d seconds", seconds) % {"seconds": seconds}
    if 60 <= seconds < _YEARS:
        # The length of time in words, as Django says it: "2 weeks".
        text += f" ({timesince(_SOME_DAY, _SOME_DAY + timedelta(seconds=seconds))})"
    return text


def attributes_shown(record: SessionRecord) -> tuple[list[tuple[str, str]], int]:
    """Return the attributes as text, as many as a page takes, and how many more there are."""
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
    """Return the most frequent names of attributes with their counts, and how many more."""
    most = islice(summary.attributes.items(), MOST_NAMES)
    shown = [(display.shortened(name, LONGEST_NAME), count) for name, count in most]
    return shown, len(summary.attributes) - len(shown)


class Users:
    """The names of users, and the pages of those who may be seen."""

    def __init__(self, site: AdminSite, request: HttpRequest) -> None:
        self._change = ""
        try:
            model = get_user_model()
        except ImproperlyConfigured:
            # A project may do without users.
            return
        if site.is_registered(model) and site.get_model_admin(model).has_view_permission(request):
            self._change = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
        self._site = site

    def address(self, user_id: str | None) -> str:
        """Return the address of a user's page, "" if there is none."""
        if not self._change or not user_id:
            return ""
        try:
            return reverse(self._change, args=[quote(user_id)], current_app=self._site.name)
        except NoReverseMatch:
            return ""

    def name(self, user_id: str) -> str:
        """Return a username, or the primary key of a user who is gone."""
        name = self.names([user_id])[user_id] if user_id else ""
        return display.shortened(user_id if name is None else name, 100)

    @staticmethod
    def names(user_ids: Iterable[str]) -> dict[str, str | None]:
        """Return the usernames by primary key; None for a user who is gone."""
        return Usernames().look_up(user_ids)
