"""The pages of the stored sessions: the list, one session, and the ones that end sessions."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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
    StoreFailed,
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

#: The number of sessions to end before the time is checked again.
BATCH = 100

#: No session key, handle or username that can be found is longer.
LONGEST_TERM = 200

#: The number of handles in the message about sessions that were not ended.
MOST_NAMED = 10

_DIGEST = re.compile(rf"[0-9a-f]{{{handles.DIGEST_LENGTH}}}")

View = TypeVar("View", bound=Callable[..., HttpResponse])


def explained(view: Any) -> Any:
    """Decorate a view: if sessions can't be read, it answers with a page that says why."""

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

    The pages use the reader of ``dirigible_session.inspection``. The model is only needed for
    its permissions and its entry in the index of the admin.
    """

    list_per_page = 100
    #: A request reads sessions for this many seconds at most. Its page then says how far it got.
    seconds = 2.0

    class Media:
        """The stylesheet of these pages."""

        css = {"all": ("dirigible_session/admin.css",)}  # noqa: RUF012

    def get_urls(self) -> list[URLPattern]:
        """Return the URL patterns of the pages, with the names that Django's own have."""
        # Only now are all models of this site registered.
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
        """Return False: only visitors create sessions."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: only visitors change sessions."""
        return False

    # The list.

    @method_decorator(sensitive_post_parameters("q"))
    @explained
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show a page of the list, search, or run an action on the selected sessions."""
        self._require("view", request)
        if request.method == "POST":
            return self._searched(request) if "q" in request.POST else self._acted(request)
        try:
            filters = Filters.of(request.GET)
        except ValueError:
            return self._without_parameters(request)
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
            # Django's template loads the script for the checkboxes if this is true.
            action_form=self.has_delete_permission(request),
            **(extra_context or {}),
        )

    def _searched(self, request: HttpRequest) -> HttpResponse:
        """Answer a search. The answer does not repeat the term, which may be a session key."""
        term = request.POST["q"].strip()[:LONGEST_TERM]
        here = self._address("changelist")
        is_handle = HANDLE.fullmatch(term.lower()) is not None
        by_handle = here + Filters(handle=term.lower()).address()
        try:
            user_id = find_user_id(term)
        except NoSuchUser:
            user_id = ""
        # The term may be the primary key of a user with another name.
        if user_id and Users.names([user_id])[user_id] == term:
            if is_handle:
                text = gettext("These are the sessions of the user with this name.")
                link = gettext("Show the sessions whose handles begin with these digits.")
                text = format_html('{} <a href="{}">{}</a>', text, by_handle, link)
                self.message_user(request, text, messages.INFO)
            return HttpResponseRedirect(here + Filters(user=user_id).address())
        if is_handle:
            return HttpResponseRedirect(by_handle)
        found = self._read_one(term)
        if found.records:
            return HttpResponseRedirect(self._address("change", found.records[0].digest))
        if found.next:
            text = gettext(
                "This search would take long. Search for the first 12 digits, which are the handle."
            )
        else:
            text = gettext("No session has this handle or key, and no user has this name.")
        self.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(here)

    def _acted(self, request: HttpRequest) -> HttpResponse:
        """End the selected sessions, after a page that asks for confirmation."""
        self._require("delete", request)
        selected = filter(_DIGEST.fullmatch, request.POST.getlist(ACTION_CHECKBOX_NAME))
        selection = Selection(state="all", digests=tuple(selected))
        if request.POST.get("action") != "delete_selected":
            self.message_user(request, gettext("No action selected."), messages.WARNING)
            return HttpResponseRedirect(request.get_full_path())
        if not selection.digests:
            text = gettext(
                "Items must be selected in order to perform actions on them. No items have been "
                "changed."
            )
            self.message_user(request, text, messages.WARNING)
            return HttpResponseRedirect(request.get_full_path())
        is_confirmed = "post" in request.POST
        inspector = Inspector(request=request)
        records: dict[str, SessionRecord] = {}
        # First from their page of the list on, then from the beginning.
        starts = dict.fromkeys((request.GET.get("after") or None, None))
        limit, seconds = len(selection.digests), self.seconds / len(starts)
        with self._logging(request) as ended:
            for after in starts:
                bounds: dict[str, Any] = {"after": after, "limit": limit, "seconds": seconds}
                if is_confirmed:
                    inspector.end_page(selection, on_end=ended.append, **bounds)
                else:
                    page = inspector.page(selection, **bounds)
                    records.update((record.digest, record) for record in page.records)
                if len(ended or records) >= limit:
                    break
        if is_confirmed:
            self._tell_ended(request, len(ended))
            return HttpResponseRedirect(request.get_full_path())
        return self._page(
            request,
            "delete_selected_confirmation",
            title=_("End sessions"),
            rows=self._rows(request, records.values(), self._users(request)),
            back=request.get_full_path(),
            action_checkbox_name=ACTION_CHECKBOX_NAME,
        )

    # One session.

    @explained
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        """Show one session, without a form."""
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
        """End one session, after a page that asks for confirmation."""
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
        with self._logging(request) as ended:
            Inspector(request=request).end_page(
                Selection(state="all", digests=(record.digest,)),
                after=request.GET.get("after"),
                limit=1,
                seconds=self.seconds,
                on_end=ended.append,
            )
        self._tell_ended(request, len(ended))
        return HttpResponseRedirect(self._after_an_end(request))

    def _read_one(self, named: str, request: HttpRequest | None = None) -> Page:
        """Read one session by its handle, digest or key; with a ``request``, not by key.

        ``named`` then comes from an address, and a session key must not work in an address.
        """
        if request is not None and not handles.PREFIX.fullmatch(named):
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
        if found.next:
            total = found.read + _number(request.GET.get("read"))
            query = urlencode([("after", found.next), ("read", total)])
            return self._page(
                request, "searching", title=_("Session"), read=total, next=f"?{query}"
            )
        if "after" in request.GET and "read" not in request.GET:
            # The search began at its page of the list. Search from the beginning.
            return HttpResponseRedirect(request.path)
        text = gettext("This session does not exist any more: it has ended or expired.")
        self.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(self._after_an_end(request))

    # All sessions of users.

    @explained
    def end_view(self, request: HttpRequest) -> HttpResponse:
        """End all sessions of the users that ``user`` in the form or the address names."""
        self._require("delete", request)
        user_ids = request.POST.getlist("user") or request.GET.getlist("user")
        if not user_ids:
            return HttpResponseRedirect(self._address("changelist"))
        if "post" not in request.POST:
            return self.asked_of_users(request, user_ids)
        inspector = Inspector(request=request)
        end = time.monotonic() + self.seconds
        after = request.POST.get("after") or None
        ended_before, read = _number(request.POST.get("ended")), _number(request.POST.get("read"))
        with self._logging(request, ended_before) as ended:
            while user_ids and (left := end - time.monotonic()) > 0:
                step = inspector.end_page(
                    Selection(state="all", user_id=user_ids[0]),
                    after=after,
                    limit=BATCH,
                    seconds=left,
                    on_end=ended.append,
                )
                read += step.read
                after = step.next
                if after is None:
                    del user_ids[0]
        count = ended_before + len(ended)
        if user_ids:
            progress = {"ended": count, "read": read, "after": after, "is_going_on": True}
            return self.asked_of_users(request, user_ids, **progress)
        self._tell_ended(request, count)
        return HttpResponseRedirect(self._after_an_end(request))

    def asked_of_users(
        self, request: HttpRequest, user_ids: Sequence[str], **progress: Any
    ) -> HttpResponse:
        """Return the page that asks whether to end all sessions of some users, or to go on."""
        return self._page(
            request,
            "end_of_users",
            title=_("End all sessions"),
            users=self._users(request).named(user_ids),
            action=self._address("end"),
            back=self._after_an_end(request),
            **progress,
        )

    # The summary.

    @explained
    def summary_view(self, request: HttpRequest) -> HttpResponse:
        """Count the sessions that can be read in time, and draw when they were created and used."""
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

    # Helpers of all pages.

    def explanation(self, request: HttpRequest, error: InspectionError) -> HttpResponse:
        """Return the page that says why sessions can't be read, or were not all ended."""
        if isinstance(error, NotEnded):
            kept = [digest[: handles.HANDLE_LENGTH] for digest in error.digests[:MOST_NAMED]]
            text = gettext(
                "The store did not delete %(handles)s. Check that the site has the permission to "
                "delete sessions there."
            ) % {"handles": ", ".join(kept) + ("…" if len(kept) < len(error.digests) else "")}
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(self._after_an_end(request))
        if isinstance(error, UnknownPosition):
            return self._without_parameters(request)
        context: dict[str, Any] = {"title": capfirst(self.opts.verbose_name_plural)}
        if isinstance(error, NotListable):
            return self._page(request, "not_read", reason=error.translated(), **context)
        is_down = isinstance(error, StoreFailed)
        reason = _("The store does not answer:") if is_down else _("A setting is wrong:")
        response = self._page(request, "not_read", reason=reason, detail=str(error), **context)
        response.status_code = 503
        return response

    def _without_parameters(self, request: HttpRequest) -> HttpResponse:
        text = gettext("The parameters in the address were not valid, so they were ignored.")
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

    @contextmanager
    def _logging(
        self, request: HttpRequest, ended_before: int = 0
    ) -> Iterator[list[StoredSession]]:
        """Log the sessions that are ended inside the ``with`` block, and put into this list.

        If the block fails, this logs and tells what it ended until then.
        """
        ended: list[StoredSession] = []
        try:
            yield ended
        except InspectionError:
            self._tell_ended(request, ended_before + len(ended))
            raise
        finally:
            if ended:
                logged = [self.model(digest=one.digest[: handles.HANDLE_LENGTH]) for one in ended]
                # Typed for querysets, documented for any iterable of objects.
                self.log_deletions(request, logged)  # type: ignore[arg-type]

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


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 19 else 0
