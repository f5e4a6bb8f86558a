"""Secrets as stars, by the rule of the project's own exception reporter filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.module_loading import import_string
from django.views.debug import SafeExceptionReporterFilter

from .display import name_as_text
from .errors import UnknownFilter, one_line
from .nested import PLAIN, contents, rebuilt

if TYPE_CHECKING:
    from django.http import HttpRequest

#: The limits of the remembered names, which visitors may choose: their number and their length.
NAMES_REMEMBERED = 4096
LONGEST_REMEMBERED = 100

#: A placeholder value, to ask the filter about a name alone.
SHOWN: Any = object()


class _Answers(dict[str, Any]):
    """The filter's answers by name, each asked for once: stars, or SHOWN."""

    def __init__(self, ask: Callable[[str], Any]) -> None:
        super().__init__()
        self._ask = ask

    def __missing__(self, name: str) -> Any:
        answer = self._ask(name)
        if len(name) <= LONGEST_REMEMBERED:
            if len(self) >= NAMES_REMEMBERED:
                self.clear()
            self[name] = answer
        return answer


class Redactor:
    """Replaces values whose names look secret, at every depth.

    ``cleanse_setting`` of ``DEFAULT_EXCEPTION_REPORTER_FILTER``, or of the request's own
    ``exception_reporter_filter``, decides what looks secret.
    """

    def __init__(self, request: HttpRequest | None = None) -> None:
        """Find the filter; UnknownFilter if there is none that can be asked."""
        own = getattr(request, "exception_reporter_filter", None)
        self._filter = _default_filter() if own is None else own
        if not callable(getattr(self._filter, "cleanse_setting", None)):
            raise UnknownFilter(
                f"The exception reporter filter {type(self._filter).__name__} has no "
                "cleanse_setting(), so it can't tell what is a secret."
            )
        # Django's own rule looks at the name alone. It may replace a secret by any value, so a
        # value is shown only if the very same object comes back.
        cleanse = getattr(type(self._filter), "cleanse_setting", None)
        is_by_name = cleanse is SafeExceptionReporterFilter.cleanse_setting
        self._by_name = _Answers(lambda name: self._cleanse(name, SHOWN)) if is_by_name else None

    def redacted(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of ``attributes`` in which every secret is stars."""
        by_name = self._by_name
        if by_name is None:
            return {
                name: rebuilt(value, self._cleansed, name) for name, value in attributes.items()
            }
        shown = {}
        for name, value in attributes.items():
            stars = by_name[name]
            if stars is not SHOWN:
                shown[name] = stars
            elif type(value) in PLAIN or (
                type(value) is list and PLAIN.issuperset(map(type, value))
            ):
                # Nothing in it has a name.
                shown[name] = value
            else:
                shown[name] = rebuilt(value, self._cleansed, name)
        return shown

    def _cleansed(self, name: Any, value: Any) -> Any:
        """Return the filter's answer for ``value``; of a container it sees only the name."""
        name = name_as_text(name)
        if self._by_name is not None:
            stars = self._by_name[name]
            return value if stars is SHOWN else stars
        opened = contents(value)
        if opened is None:
            return self._cleanse(name, value)
        empty: Any = () if isinstance(value, tuple) else opened[0]
        cleansed = self._cleanse(name, empty)
        return value if cleansed == empty else cleansed

    def _cleanse(self, name: Any, value: Any) -> Any:
        try:
            return self._filter.cleanse_setting(name, value)
        except Exception as error:
            # Whatever it raises may quote the secret that it was asked about.
            raise UnknownFilter(
                f"The exception reporter filter {type(self._filter).__name__} can't tell what is a "
                f"secret: its cleanse_setting() raised {type(error).__name__}."
            ) from None


def _default_filter() -> Any:
    path = settings.DEFAULT_EXCEPTION_REPORTER_FILTER
    try:
        return import_string(path)()
    except Exception as error:
        # It may be a class of the project, and fail in any way.
        raise UnknownFilter(
            f"DEFAULT_EXCEPTION_REPORTER_FILTER, {path!r}, is not a filter: {one_line(error)}"
        ) from error
