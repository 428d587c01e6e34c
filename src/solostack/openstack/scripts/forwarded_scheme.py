"""A paste filter for Swift's proxy: links in answers begin as the client's own URL did.

Behind a front door that speaks TLS the proxy sees plain HTTP. Other services know that from
oslo.middleware's http_proxy_to_wsgi; Swift has no such filter, and oslo's would put the front
door's prefix into SCRIPT_NAME, which Swift takes for a part of the object's path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Callable[..., Application]:
    """Return the filter (Paste Deployment)."""
    del global_conf, local_conf

    def wrap(application: Application) -> Application:
        def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            if environ.get("HTTP_X_FORWARDED_PROTO") == "https":
                environ["wsgi.url_scheme"] = "https"
            return application(environ, start_response)

        return call

    return wrap
