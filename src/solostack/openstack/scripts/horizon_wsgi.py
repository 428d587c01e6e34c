"""The dashboard under uWSGI, loaded and warmed up in the master before it forks.

Horizon imports its panels when the first URL is resolved and compiles templates when they are first
rendered: seconds that would be the first visitor's. uWSGI listens already meanwhile, so nobody is
turned away; workers share the memory.
"""

from __future__ import annotations

import gc
import os
from wsgiref.util import setup_testing_defaults

from django import db  # type: ignore[import-not-found]
from django.conf import settings  # type: ignore[import-not-found]
from django.core.wsgi import get_wsgi_application  # type: ignore[import-not-found]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "openstack_dashboard.settings")
application = get_wsgi_application()


def warm_up() -> None:
    """Render the login page as the front door would ask for it."""
    request = {
        "PATH_INFO": settings.LOGIN_URL,
        "HTTP_HOST": settings.ALLOWED_HOSTS[0],
        "HTTP_X_FORWARDED_PROTO": "https",
    }
    setup_testing_defaults(request)
    for _ in application(request, lambda *_: None):
        pass
    # A connection must not be shared between the processes that come from this one.
    db.connections.close_all()
    # What is loaded stays; looking it over for garbage would make copies of shared memory.
    gc.collect()
    gc.freeze()


warm_up()
