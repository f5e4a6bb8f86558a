"""Visitors of the site over HTTP, with cookies, redirects and CSRF tokens as in a browser."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from http.client import HTTPMessage
from http.cookiejar import CookieJar
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import (
    HTTPCookieProcessor,
    HTTPRedirectHandler,
    ProxyHandler,
    Request,
    build_opener,
)

PATIENCE = 30


class Surprise(Exception):
    """A page did not show the expected text."""


class Page(HTMLParser):
    """The parts of a page that a visitor needs: its result or errors, and the CSRF token."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.token = ""
        self._said: list[str] = []
        self._is_listening = False
        self.feed(html)

    @property
    def said(self) -> str:
        """Return the page's result and errors as one line."""
        return " ".join(" ".join(self._said).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the token, and whether the text of this element is the result or an error."""
        attributes = dict(attrs)
        if attributes.get("name") == "csrfmiddlewaretoken":
            self.token = attributes.get("value") or ""
        self._is_listening = attributes.get("id") == "result" or attributes.get("class") == "error"

    def handle_endtag(self, tag: str) -> None:
        """Note the end of an element."""
        self._is_listening = False

    def handle_data(self, data: str) -> None:
        """Note the text of the result or an error."""
        if self._is_listening:
            self._said.append(data)


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, and keeps their status codes."""

    def __init__(self) -> None:
        self.codes: list[int] = []

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        self.codes.append(code)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Visitor:
    """A person with a browser."""

    def __init__(
        self, name: str, address: str, tell: Callable[[str], None], user_agent: str = "demo"
    ) -> None:
        """Visit the site at ``address`` as ``name``; call ``tell`` with a line for each visit."""
        self.name = name
        self.cookies = CookieJar()
        self._address = address
        self._tell = tell
        self._redirects = _Redirects()
        # The site is on this machine, so a proxy of the environment is not used.
        self._opener = build_opener(
            ProxyHandler({}), HTTPCookieProcessor(self.cookies), self._redirects
        )
        self._opener.addheaders = [("User-Agent", user_agent)]
        self._token = ""

    def get(self, path: str, expected: str) -> None:
        """Open a page; raise Surprise if it does not show ``expected``."""
        self._visit(Request(self._address + path), path, expected)

    def post(self, path: str, expected: str, note: str = "", **fields: str) -> None:
        """Send a form of the current page; raise Surprise if the answer does not show ``expected``.

        ``note`` replaces the fields in the line about the visit.
        """
        body = urlencode({**fields, "csrfmiddlewaretoken": self._token}).encode()
        done = note or " ".join(f"{name}={value}" for name, value in fields.items())
        self._visit(Request(self._address + path, body), f"{path} {done}".rstrip(), expected)

    def _visit(self, request: Request, done: str, expected: str) -> None:
        self._redirects.codes = []
        try:
            with self._opener.open(request, timeout=PATIENCE) as response:
                status, html = response.status, response.read().decode()
        except HTTPError as error:
            with error:
                status, html = error.code, error.read().decode()
        page = Page(html)
        self._token = page.token
        codes = " -> ".join(map(str, [*self._redirects.codes, status]))
        line = f"  {self.name:<5} {request.get_method():<4} {done:<28} {codes:<10}  {page.said}"
        self._tell(line.rstrip())
        if status != 200 or expected not in page.said:
            raise Surprise(
                f"{self.name} expected {expected!r} of {done}, not {codes} {page.said!r}"
            )
