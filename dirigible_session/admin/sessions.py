"""The pages of the stored sessions: a list, one session, and what ends some of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from dirigible_session import handles
from dirigible_session.inspection import (
    InspectionError,
    Inspector,
    NoSuchSession,
    NoSuchUser,
    NotEnded,
    NotListable,
    Selection,
    SessionRecord,
    UnknownPosition,
    find_user_id,
)
from dirigible_session.inspection.inspector import Page
from dirigible_session.models import Session
from dirigible_session.stored import StoredSession

from .filters import HANDLE, Filters
from .picture import Picture
from .rows import Row, Users, attributes_shown, idle_limit, local, names_shown
from .users import offer_on_users

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.urls import URLPattern

    Base = admin.ModelAdmin[Session]
else:
    Base = admin.ModelAdmin

TEMPLATES = "admin/dirigible_session/session"

NOTHING = Page(records=[], next=None, read=0)

#: Sessions that are ended between two looks at the clock.
BATCH = 100

#: Nobody's key, handle or name is longer.
LONGEST_TERM = 200

_DIGEST = re.compile(rf"[0-9a-f]{{{handles.DIGEST_LENGTH}}}")
_PREFIX = re.compile(rf"[0-9a-f]{{4,{handles.DIGEST_LENGTH}}}")

View = TypeVar("View", bound=Callable[..., HttpResponse])


def explained(view: Any) -> Any:
    """Let a view answer with a page that says why, where the sessions can't be read."""

    @wraps(view)
    def explaining(
        self: SessionAdmin, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        try:
            response: HttpResponse = view(self, request, *args, **kwargs)
        except InspectionError as error:
            return self.explanation(request, error)
        return response

    return explaining


class SessionAdmin(Base):
    """The stored sessions of ``SESSION_ENGINE``, as ``sessions_dump`` shows them.

    They come from the reader, not from the table of the model, which stands here for its
    permissions and its place in the index.
    """

    list_per_page = 100
    #: How long, in seconds, a request may read sessions. Then the page says how far it got.
    seconds = 2.0

    class Media:
        """The stylesheet of these pages."""

        css = {"all": ("dirigible_session/admin.css",)}  # noqa: RUF012

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses of the pages, by the names that Django gives them."""
        # By now every model of this site is registered.
        offer_on_users(self)

        def page_at(route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            full_name = f"{self.opts.app_label}_{self.opts.model_name}_{name}"
            return path(route, self.admin_site.admin_view(view), name=full_name)

        return [
            page_at("", self.changelist_view, "changelist"),
            page_at("add/", self.add_view, "add"),
            page_at("end/", self.end_view, "end"),
            page_at("summary/", self.summary_view, "summary"),
            page_at("<str:object_id>/change/", self.change_view, "change"),
            page_at("<str:object_id>/delete/", self.delete_view, "delete"),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: a session is made by its visitor."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: a session is changed by its visitor."""
        return False

    # The list.

    @method_decorator(sensitive_post_parameters("q"))
    @explained
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show a page of the list; answer its search and its actions."""
        self._require("view", request)
        if request.method == "POST":
            return self._searched(request) if "q" in request.POST else self._acted(request)
        try:
            filters = Filters.of(request.GET)
        except ValueError:
            return self._started_anew(request)
        found = Inspector().page(
            filters.selection,
            after=filters.after or None,
            limit=self.list_per_page,
            seconds=self.seconds,
        )
        users = self._users(request)
        read = filters.read + found.read
        return self._page(
            request,
            "change_list",
            title=capfirst(self.opts.verbose_name_plural),
            rows=self._rows(request, found.records, users, at=filters.after),
            filters=filters,
            sidebar=filters.sidebar(users.name(filters.user)),
            read=read,
            next=found.next and filters.address(after=found.next, read=read),
            is_full=len(found.records) >= self.list_per_page,
            first=filters.first().address(),
            summary_url=self._address("summary"),
            # By this name Django's template loads what its script for the checkboxes needs.
            action_form=self.has_delete_permission(request),
            **(extra_context or {}),
        )

    def _searched(self, request: HttpRequest) -> HttpResponse:
        """Answer a search; what was looked for is not repeated, since it may be a key."""
        term = request.POST["q"].strip()[:LONGEST_TERM]
        here = self._address("changelist")
        user_id = _user_called(term)
        is_handle = HANDLE.fullmatch(term.lower()) is not None
        handles_like_it = here + Filters(handle=term.lower()).address()
        if user_id is not None:
            if is_handle:
                text = gettext("These are the sessions of the user with this name.")
                link = gettext("Show the sessions whose handles begin like this.")
                text = format_html('{} <a href="{}">{}</a>', text, handles_like_it, link)
                self.message_user(request, text, messages.INFO)
            return HttpResponseRedirect(here + Filters(user=user_id).address())
        if is_handle:
            return HttpResponseRedirect(handles_like_it)
        found = self._read_one(term)
        if found.records:
            return HttpResponseRedirect(self._address("change", found.records[0].digest))
        if found.next:
            text = gettext(
                "This may take long. Search for the first 12 digits only, which are the handle."
            )
        else:
            text = gettext("No session has this handle or key, and no user has this name.")
        self.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(here)

    def _acted(self, request: HttpRequest) -> HttpResponse:
        """End the sessions that are selected, after a page that asks."""
        self._require("delete", request)
        digests = [
            digest
            for digest in request.POST.getlist(ACTION_CHECKBOX_NAME)
            if _DIGEST.fullmatch(digest)
        ]
        if request.POST.get("action") != "delete_selected":
            self.message_user(request, gettext("No action selected."), messages.WARNING)
        elif not digests:
            text = gettext(
                "Items must be selected in order to perform actions on them. No items have been "
                "changed."
            )
            self.message_user(request, text, messages.WARNING)
        elif "post" not in request.POST:
            return self._asked_of_selected(request, digests)
        else:
            self._end_selected(request, digests)
        return HttpResponseRedirect(request.get_full_path())

    def _asked_of_selected(self, request: HttpRequest, digests: Sequence[str]) -> HttpResponse:
        inspector = Inspector()
        records: list[SessionRecord] = []
        for selection, bounds in self._where_selected(request, digests):
            if len(records) < len(digests):
                records += inspector.page(selection, **bounds).records
        return self._page(
            request,
            "delete_selected_confirmation",
            title=_("End sessions"),
            rows=self._rows(request, _each_once(records), self._users(request)),
            back=request.get_full_path(),
            action_checkbox_name=ACTION_CHECKBOX_NAME,
        )

    def _end_selected(self, request: HttpRequest, digests: Sequence[str]) -> None:
        inspector = Inspector()
        ended: list[StoredSession] = []
        for selection, bounds in self._where_selected(request, digests):
            if len(ended) < len(digests):
                ended += inspector.end_page(selection, **bounds).sessions
        self._log(ended, request)
        self._tell_ended(request, len(ended))

    def _where_selected(
        self, request: HttpRequest, digests: Sequence[str]
    ) -> Iterator[tuple[Selection, dict[str, Any]]]:
        """Give where to look for sessions: from their page of the list on, then everywhere."""
        selection = Selection(state="all", digests=tuple(digests))
        starts = dict.fromkeys((request.GET.get("after") or None, None))
        for after in starts:
            seconds = self.seconds / len(starts)
            yield selection, {"after": after, "limit": len(digests), "seconds": seconds}

    # One session.

    @explained
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        """Show one session; nobody can change it here."""
        self._require("view", request)
        if request.method == "POST":
            raise PermissionDenied
        found = self._read_one(object_id, request)
        if not found.records:
            return self._not_found(request, found)
        record = found.records[0]
        (row,) = self._rows(request, [record], self._users(request))
        shown, more = attributes_shown(record)
        return self._page(
            request,
            "change_form",
            title=_("View session"),
            original=self.model(digest=record.handle),
            row=row,
            attributes=shown,
            more=more,
            delete_url=self.has_delete_permission(request)
            and self._address("delete", record.digest),
            of_user=self._address("changelist") + Filters(user=record.user_id or "").address(),
            idle_limit=idle_limit(record),
            list_url=self._address("changelist"),
            **(extra_context or {}),
        )

    @explained
    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """End one session, after a page that asks."""
        self._require("delete", request)
        found = self._read_one(object_id, request)
        if not found.records:
            return self._not_found(request, found)
        record = found.records[0]
        if request.method != "POST":
            rows = self._rows(request, [record], self._users(request))
            return self._page(
                request,
                "delete_confirmation",
                title=_("End session"),
                object=self.model(digest=record.handle),
                rows=rows,
                row=rows[0],
                back=rows[0].address,
                **(extra_context or {}),
            )
        ended = (
            Inspector()
            .end_page(
                Selection(state="all", digests=(record.digest,)),
                after=request.GET.get("after"),
                limit=1,
                seconds=self.seconds,
            )
            .sessions
        )
        self._log(ended, request)
        self._tell_ended(request, len(ended))
        return HttpResponseRedirect(self._after_an_end(request))

    def _read_one(self, named: str, request: HttpRequest | None = None) -> Page:
        """Look for one session by its handle, digest or key; of an address by a digest only."""
        if request is not None and not _PREFIX.fullmatch(named):
            return NOTHING
        after = None if request is None else request.GET.get("after")
        try:
            return Inspector().page(
                Selection(state="all", session=named),
                after=after,
                limit=1,
                seconds=self.seconds,
            )
        except NoSuchSession:
            return NOTHING

    def _not_found(self, request: HttpRequest, found: Page) -> HttpResponse:
        read = request.GET.get("read", "0")
        if found.next:
            total = found.read + (int(read) if read.isdecimal() else 0)
            query = urlencode([("after", found.next), ("read", total)])
            return self._page(
                request, "searching", title=_("Session"), read=total, next=f"?{query}"
            )
        if "after" in request.GET and "read" not in request.GET:
            # It was looked for from the page of the list on where it stood then.
            return HttpResponseRedirect(request.path)
        text = gettext("This session is not there any more: it ended or expired meanwhile.")
        self.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(self._after_an_end(request))

    # All sessions of users.

    @explained
    def end_view(self, request: HttpRequest) -> HttpResponse:
        """End all sessions of some users, named by ``user`` in the form or the address."""
        self._require("delete", request)
        user_ids = request.POST.getlist("user") or request.GET.getlist("user")
        if not user_ids:
            return HttpResponseRedirect(self._address("changelist"))
        if "post" not in request.POST:
            return self.asked_of_users(request, user_ids)
        ended, user_ids, after, read = self._end_users(request, user_ids)
        if user_ids:
            progress = {"ended": ended, "read": read, "after": after, "is_going_on": True}
            return self.asked_of_users(request, user_ids, **progress)
        self._tell_ended(request, ended)
        return HttpResponseRedirect(self._after_an_end(request))

    def asked_of_users(
        self, request: HttpRequest, user_ids: Sequence[str], **progress: Any
    ) -> HttpResponse:
        """Return the page that asks whether to end all sessions of some users, or to go on."""
        users = self._users(request)
        return self._page(
            request,
            "end_of_users",
            title=_("End all sessions"),
            users=[(user_id, users.name(user_id)) for user_id in user_ids],
            action=self._address("end"),
            back=self._after_an_end(request),
            **progress,
        )

    def _end_users(
        self, request: HttpRequest, user_ids: Sequence[str]
    ) -> tuple[int, list[str], str | None, int]:
        """End sessions until the time is over; return how many, and where to go on."""
        inspector = Inspector()
        end = time.monotonic() + self.seconds
        remaining = list(user_ids)
        after: str | None = request.POST.get("after") or None
        ended, read = _number(request.POST.get("ended")), _number(request.POST.get("read"))
        while remaining and (left := end - time.monotonic()) > 0:
            selection = Selection(state="all", user_id=remaining[0])
            step = inspector.end_page(selection, after=after, limit=BATCH, seconds=left)
            self._log(step.sessions, request)
            ended += len(step.sessions)
            read += step.read
            after = step.next
            if after is None:
                del remaining[0]
        return ended, remaining, after, read

    # The summary.

    @explained
    def summary_view(self, request: HttpRequest) -> HttpResponse:
        """Count sessions, as many as the time allows, and draw when they were there."""
        self._require("view", request)
        summary = Inspector().summary(Selection(state="all"), seconds=self.seconds)
        names, more = names_shown(summary)
        return self._page(
            request,
            "summary",
            title=_("Summary"),
            original=gettext("Summary"),
            summary=summary,
            oldest=local(summary.oldest),
            pictures=[
                Picture("created", _("When sessions were created"), summary.created),
                Picture(
                    "last-accessed", _("When sessions were last accessed"), summary.last_accessed
                ),
            ],
            names=names,
            more=more,
            list_url=self._address("changelist"),
        )

    # What the pages have in common.

    def explanation(self, request: HttpRequest, error: InspectionError) -> HttpResponse:
        """Return the page that says why the sessions can't be read, or not all were ended."""
        if isinstance(error, NotEnded):
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(self._after_an_end(request))
        if isinstance(error, UnknownPosition):
            return self._started_anew(request)
        response = self._page(
            request,
            "not_read",
            title=capfirst(self.opts.verbose_name_plural),
            reason=_said(error),
        )
        if not isinstance(error, NotListable):
            response.status_code = 503
        return response

    def _started_anew(self, request: HttpRequest) -> HttpResponse:
        text = gettext("The address made no sense, so this is the page without its parameters.")
        self.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(request.path)

    def _require(self, permission: str, request: HttpRequest) -> None:
        if not getattr(self, f"has_{permission}_permission")(request):
            raise PermissionDenied

    def _address(self, name: str, *args: str) -> str:
        full_name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{name}"
        return reverse(full_name, args=args, current_app=self.admin_site.name)

    def _after_an_end(self, request: HttpRequest) -> str:
        if self.has_view_permission(request):
            return self._address("changelist")
        return reverse("admin:index", current_app=self.admin_site.name)

    def _users(self, request: HttpRequest) -> Users:
        return Users(self.admin_site, request)

    def _rows(
        self, request: HttpRequest, records: Iterable[SessionRecord], users: Users, at: str = ""
    ) -> list[Row]:
        own = request.session.session_key
        own_digest = own and handles.digest(own)
        query = f"?{urlencode({'after': at})}" if at else ""
        return [
            Row(
                record,
                address=self._address("change", record.digest) + query,
                user_address=users.address(record.user_id),
                is_own=record.digest == own_digest,
            )
            for record in records
        ]

    def _log(self, sessions: Iterable[StoredSession], request: HttpRequest) -> None:
        """Write to the admin's log what was ended, by handle."""
        ended = [self.model(digest=session.digest[: handles.HANDLE_LENGTH]) for session in sessions]
        if ended:
            # Typed for querysets, documented for any iterable of objects.
            self.log_deletions(request, ended)  # type: ignore[arg-type]

    def _tell_ended(self, request: HttpRequest, count: int) -> None:
        text = ngettext("Ended %(count)d session.", "Ended %(count)d sessions.", count)
        level = messages.SUCCESS if count else messages.WARNING
        self.message_user(request, text % {"count": count}, level)

    def _page(self, request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"{TEMPLATES}/{template}.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "cl": {"opts": self.opts},
                "app_label": self.opts.app_label,
                "has_view_permission": self.has_view_permission(request),
                "media": self.media,
                "actions_on_top": True,
                **context,
            },
        )


def _user_called(name: str) -> str | None:
    """Return the primary key of the user with this username, as sessions hold it."""
    try:
        user_id = find_user_id(name)
    except NoSuchUser:
        return None
    return user_id if Users.names([user_id])[user_id] == name else None


def _said(error: InspectionError) -> str:
    """Return what an error says, in the language of the page if it is one of ours to say."""
    if not isinstance(error, NotListable):
        return str(error)
    params = {**error.params, "reason": gettext(error.params.get("reason", "-"))}
    return gettext(error.message) % params


def _each_once(records: Iterable[SessionRecord]) -> Iterable[SessionRecord]:
    return {record.digest: record for record in records}.values()


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 19 else 0
