"""What stands before every page: known hosts, own origin, a session, a secret in every change, and limits on size."""

import hashlib
import ipaddress
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medloom.core.errors import UserError
from medloom.studio.store.sessions import DAYS
from medloom.studio.store.store import Store

COOKIE, SECRET = "medloom_studio", "X-Studio-Secret"
# Whoever opens a page of a studio without passwords.
LOCAL = "local"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Digits of a length that may be one.
LONGEST_LENGTH = 20
# Bytes of a form without files.
FORM_BYTES = 1_000_000
MB = 2**20
TOO_LARGE, UNAVAILABLE = 413, 503
SAFE = ("GET", "HEAD")
# Pages that need no session.
OPEN = ("/login", "/static/")
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; connect-src 'self';"
    " worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-src 'self';"
    " frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Guard:
    """An application behind its guard; `scope["state"]` of what passes has `user`, `token` and `secret`.

    Args:
        app: the application.
        store: has the sessions.
        names: hosts by which the pages may be asked for; addresses in numbers always may, since no other site can have
            them as its name.
        origins: what browsers may send as the origin of a change, besides the host itself.
        users: who can log in; empty where nobody has to.
        secure: whether cookies are for TLS only.
        largest: bytes of a form with a file.
    """

    def __init__(
        self,
        app: ASGIApp,
        store: Store,
        names: frozenset[str],
        origins: frozenset[str],
        users: frozenset[str],
        secure: bool,
        largest: int,
    ) -> None:
        self._app = app
        self._store = store
        self._names = names
        self._origins = origins
        self._users = users
        self._secure = secure
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        cookies: list[str] = []
        try:
            answer = self._refusal(scope, headers) or self._with_session(scope, headers, cookies)
        except UserError as error:
            # A store that is damaged, or on a disk that is full.
            answer = PlainTextResponse(str(error), status_code=UNAVAILABLE)
        if answer is None:
            answer = self._unproved(scope, headers)
        send = _with_headers(send, cookies)
        if answer is not None:
            await answer(scope, receive, send)
            return
        limited = _Limited(receive, self._limit(scope))
        await self._app(scope, limited, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Why a request is refused whoever sends it, or None."""
        host = headers.get("host", "")
        if not self._is_known(host):
            return PlainTextResponse(
                f"This studio is not known as {host!r}: open it by its address in numbers, or start it with --public.",
                status_code=421,
            )
        if scope["method"] not in SAFE:
            origin, site = headers.get("origin"), headers.get("sec-fetch-site")
            own = {f"http://{host}", f"https://{host}", *self._origins}
            if (origin is not None and origin not in own) or site not in (None, "same-origin", "none"):
                return PlainTextResponse("Changes are accepted from the studio's own pages only.", status_code=403)
        length, limit = headers.get("content-length", "0"), self._limit(scope)
        if not (length.isascii() and length.isdigit() and len(length) < LONGEST_LENGTH and int(length) <= limit):
            return PlainTextResponse(too_large(limit), status_code=TOO_LARGE)
        return None

    def _with_session(self, scope: Scope, headers: Headers, cookies: list[str]) -> Response | None:
        """Find the session, or begin one where nobody has to log in; where one has to, the way to do so."""
        # Of other sites at other ports of this computer there may be cookies of any form.
        token = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        found = self._store.sessions.get(hash_of(token), time.time() - DAYS * 86400) if token else None
        # A session outlives a start of the studio, and its user may be none of it any more.
        if found is not None and found[0] not in (self._users or (LOCAL,)):
            found = None
        is_open = scope["path"].startswith(OPEN)
        if found is None and not self._users and not is_open:
            token, secret = self.begin(LOCAL)
            cookies.append(self.cookie(token))
            found = LOCAL, secret
        state["user"], state["secret"] = found or ("", "")
        state["token"] = token if found else ""
        if found or is_open:
            return None
        if headers.get("hx-request"):
            return Response(status_code=401, headers={"HX-Redirect": "/login"})
        return RedirectResponse("/login", status_code=303)

    def _unproved(self, scope: Scope, headers: Headers) -> Response | None:
        """Refuse a change by a page that does not have the session's secret."""
        state = scope["state"]
        if scope["method"] in SAFE or scope["path"] == "/login":
            # A password is proof enough, and comes from an own page.
            return None
        if secrets.compare_digest(headers.get(SECRET, "").encode(), state["secret"].encode()):
            return None
        return PlainTextResponse("The page is older than your session: load it again.", status_code=403)

    def _is_known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

    def _limit(self, scope: Scope) -> int:
        return self._largest if scope["path"].startswith("/uploads") else FORM_BYTES

    def begin(self, user: str) -> tuple[str, str]:
        """Begin a session; returns the browser's token and the secret of its forms."""
        token, secret = secrets.token_urlsafe(32), secrets.token_urlsafe(24)
        self._store.sessions.add(hash_of(token), user, secret)
        return token, secret

    def end(self, token: str) -> None:
        """End a session by the browser's token."""
        self._store.sessions.end(hash_of(token))

    def cookie(self, token: str) -> str:
        """The header that gives a browser its token; an empty one takes it away."""
        age = DAYS * 86400 if token else 0
        secure = "; Secure" if self._secure else ""
        return f"{COOKIE}={token}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"


class _Limited:
    """What a request sends, as long as it is not longer than it may be.

    Args:
        receive: the request.
        limit: bytes.
    """

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = self._left = limit

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            # A length that was not announced.
            raise HTTPException(TOO_LARGE, too_large(self._limit))
        return message


def too_large(limit: int) -> str:
    """What is said of a request that is longer than it may be.

    >>> too_large(200 * MB)
    'Too large: at most 200 MB can be brought at a time; bring a smaller file, or start the studio with --upload-mb.'
    """
    if limit == FORM_BYTES:
        return f"Too large: a form has at most {FORM_BYTES} bytes; write a shorter text."
    return (
        f"Too large: at most {limit // MB} MB can be brought at a time; bring a smaller file, or start the studio with"
        " --upload-mb."
    )


def names_of(host: str, public: str | None) -> frozenset[str]:
    """The host names of a studio, besides addresses in numbers.

    Args:
        host: that it listens at.
        public: address of the proxy before it, or None.
    """
    known = {host, *LOOPBACK} if host in LOOPBACK else {host, "localhost", socket.gethostname(), socket.getfqdn()}
    return frozenset({*known, *([urlsplit(public).hostname or ""] if public else [])})


def hash_of(token: str) -> str:
    """A token as the store has it."""
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def _with_headers(send: Send, cookies: list[str]) -> Callable[[Message], Awaitable[None]]:
    """What is answered, with the headers of every answer; one that has a header of its own keeps it."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            for cookie in cookies:
                headers.append("Set-Cookie", cookie)
        await send(message)

    return sending
