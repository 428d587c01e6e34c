"""Horizon where a session has ended: the login page instead of an error page.

Where Horizon and Django answer something else, as read in their sources and seen on the wire:

- Keystone takes the token no longer (revoked; the user disabled or deleted). Every API then answers
  401, which ``horizon.exceptions.handle`` makes a page "not authorized" of, again and again, until
  the user removes the cookie by hand.
- The same token, where a client library tries to get another one for it: Keystone answers that with
  404, which Horizon takes for a missing instance, say, and shows a page without any.
- The session was removed while a request of it ran (a log-out in another tab). Django's session
  middleware answers a bare 400.
- The database of the sessions, or Keystone, does not answer: error 500. Here it is 503 and a
  page that says so and asks again.
- The cookie with the farewell for the login page is damaged: error 500 of the login page itself.

Used by local_settings.py: ``EndedSessions`` stands last in MIDDLEWARE, so that it is asked first
about an exception; the module itself is ROOT_URLCONF, Horizon's own URLs with other error pages.
"""

from __future__ import annotations

import sys
import urllib.parse
from collections.abc import Callable, Iterator

from django import db  # type: ignore[import-not-found]
from django.conf import settings  # type: ignore[import-not-found]
from django.contrib import auth  # type: ignore[import-not-found]
from django.contrib.sessions.exceptions import (  # type: ignore[import-not-found]
    SessionInterrupted,
)
from django.http import (  # type: ignore[import-not-found]
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
)
from django.views import defaults  # type: ignore[import-not-found]
from horizon import exceptions as horizon_exceptions  # type: ignore[import-not-found]
from horizon.utils.http import is_ajax  # type: ignore[import-not-found]
from keystoneauth1 import exceptions as keystone_errors  # type: ignore[import-not-found]
from keystoneauth1.identity.v3 import base as identity  # type: ignore[import-not-found]
from openstack_dashboard.urls import urlpatterns  # type: ignore[import-not-found]

__all__ = ["EndedSessions", "handler400", "handler500", "urlpatterns"]

handler400 = "horizon_sessions.bad_request"
handler500 = "horizon_sessions.server_error"
FAREWELL = "logout_reason"
ENDED = "Your session has ended. Please log in again."
MESSAGE_S = 10
UNAVAILABLE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>Unavailable</title></head>
<body style="font-family: sans-serif; text-align: center; margin-top: 15vh">
<h2>{what} does not answer.</h2>
<p>You stay logged in. This page tries again every few seconds.</p>
</body></html>
"""
DATABASE_AWAY = (db.OperationalError, db.InterfaceError)
KEYSTONE_AWAY = (
    keystone_errors.ConnectFailure,
    keystone_errors.DiscoveryFailure,
    keystone_errors.HttpServerError,
)
TOKEN_REFUSED = tuple(
    kind for kind in horizon_exceptions.UNAUTHORIZED if kind is not horizon_exceptions.NotAuthorized
)


_ask_for_token = identity.Auth.get_auth_ref


def ask_for_token(plugin: identity.Auth, *arguments: object, **more: object) -> object:
    """Ask Keystone for a token; what it does not find is the one that was given for it."""
    try:
        return _ask_for_token(plugin, *arguments, **more)
    except keystone_errors.NotFound as error:
        raise keystone_errors.Unauthorized(str(error), response=error.response) from error


identity.Auth.get_auth_ref = ask_for_token


class EndedSessions:
    """Leads a request whose token is refused to the login page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on, without a farewell that the login page could not read."""
        try:
            request.COOKIES.get(FAREWELL, "").encode("ascii").decode("unicode_escape")
        except UnicodeError:
            del request.COOKIES[FAREWELL]
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer when an API refused the token; a page that is forbidden stays Horizon's matter."""
        return ended(request) if _has(error, TOKEN_REFUSED) else None


def bad_request(request: HttpRequest, error: Exception) -> HttpResponse:
    """Answer what Django refuses: a session removed meanwhile leads to the login page."""
    if _has(error, (SessionInterrupted,)):
        return to_login(request)
    return defaults.bad_request(request, error)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer what nothing else handled; called inside of Django's except clause."""
    error = sys.exc_info()[1]
    if _has(error, DATABASE_AWAY):
        return unavailable("The dashboard's database")
    if _has(error, TOKEN_REFUSED):
        return ended(request)
    if _has(error, KEYSTONE_AWAY):
        return unavailable("The identity service (Keystone)")
    return defaults.server_error(request)


def unavailable(what: str) -> HttpResponse:
    """Say what does not answer, on a page that asks again by itself."""
    response = HttpResponse(UNAVAILABLE.format(what=what), status=503)
    response["Retry-After"] = "5"
    return response


def ended(request: HttpRequest) -> HttpResponse:
    """Forget the session and lead to the login page."""
    auth.logout(request)
    return to_login(request)


def to_login(request: HttpRequest) -> HttpResponse:
    """Lead to the login page and from there back to where the user was.

    Scripts cannot follow a redirect to a page; Horizon's own look for 401 with X-Horizon-Location.
    """
    asked = request.get_full_path() if request.method == "GET" and not is_ajax(request) else "/"
    url = f"{settings.LOGIN_URL}?next={urllib.parse.quote(asked)}"
    if is_ajax(request):
        response = HttpResponse(status=401)
        response["X-Horizon-Location"] = url
    else:
        response = HttpResponseRedirect(url)
    response.set_cookie(FAREWELL, ENDED, max_age=MESSAGE_S)
    return response


def _has(error: BaseException | None, kinds: tuple[type[BaseException], ...]) -> bool:
    return any(isinstance(one, kinds) for one in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those it came from.

    Horizon carries what it wraps in ``HandledException.wrapped`` (kind, value, traceback).
    """
    while error is not None:
        yield error
        wrapped = getattr(error, "wrapped", None)
        error = wrapped[1] if wrapped else error.__cause__ or error.__context__
