"""Horizon's settings as Python reads them, and its files for sites that have or lack services."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest

from solostack.engine.operations import File, Operation, Unit
from solostack.openstack import horizon, horizon_settings, keystone, roles
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.site.loader import load_site
from solostack.site.model import Role, Site

ROOT = Path(__file__).parents[2]
FACTS = HostFacts(
    name="phys1", cores=4, memory_mib=32000, disk_gib=220, kvm=True, openvswitch_module=True
)
IMPORTS = re.compile(r"^(import|from|logging|pymysql|sys\.path).*$", re.MULTILINE)


@functools.cache
def full_site() -> Site:
    return load_site(ROOT / "examples" / "full.yaml").site


def make_plan(**changes: Any) -> Plan:
    site = full_site().model_copy(update=changes)
    return build_plan(site, {"phys1": FACTS})


def settings(plan: Plan) -> dict[str, Any]:
    """Run the settings as Python does; what they import is there on the controller only."""
    text = horizon_settings.render_settings(plan)
    values: dict[str, Any] = {"_MIDDLEWARE": ("horizons.own",)}
    exec(IMPORTS.sub("", text), values)
    return values


def operations(plan: Plan) -> tuple[Operation, ...]:
    return horizon.horizon_operations(plan, plan.node(Role.CONTROLLER))


def test_the_whole_settings_are_python() -> None:
    compile(horizon_settings.render_settings(make_plan()), "local_settings.py", "exec")


def test_a_site_without_a_dashboard_has_nothing_of_it() -> None:
    plan = make_plan(dashboard=None)
    assert operations(plan) == ()
    assert horizon.horizon_units(plan) == ()
    names = roles.secret_names(plan)
    assert not [name for name in names if "horizon" in name]
    with pytest.raises(ValueError, match="no dashboard"):
        horizon_settings.render_settings(plan)


def test_secrets_are_in_a_file_that_only_root_and_horizon_read() -> None:
    plan = make_plan()
    held = [
        operation
        for operation in operations(plan)
        if isinstance(operation, File) and "@@secret:" in operation.content
    ]
    assert [(file.path, file.mode, file.group) for file in held] == [
        (horizon.SETTINGS, 0o640, "horizon")
    ]
    assert {"horizon_secret_key", "horizon_db_password"} <= set(roles.secret_names(plan))


def test_with_a_directory_both_kinds_of_users_find_their_domain_by_a_name() -> None:
    values = settings(make_plan())
    assert values["OPENSTACK_KEYSTONE_MULTIDOMAIN_SUPPORT"]
    assert values["OPENSTACK_KEYSTONE_DOMAIN_DROPDOWN"]
    assert [name for name, _ in values["OPENSTACK_KEYSTONE_DOMAIN_CHOICES"]] == ["users", "Default"]


def test_without_a_directory_nobody_is_asked_for_a_domain() -> None:
    assert "OPENSTACK_KEYSTONE_MULTIDOMAIN_SUPPORT" not in settings(make_plan(directory=None))


def test_without_cinder_the_launch_form_knows_no_volumes() -> None:
    form = settings(make_plan(storage=None))["LAUNCH_INSTANCE_DEFAULTS"]
    assert form["hide_create_volume"]
    assert form["disable_volume"]
    assert form["disable_volume_snapshot"]
    with_cinder = settings(make_plan())["LAUNCH_INSTANCE_DEFAULTS"]
    assert not with_cinder["create_volume"]
    assert not with_cinder["hide_create_volume"]


def test_it_answers_to_the_front_doors_names_only() -> None:
    assert settings(make_plan())["ALLOWED_HOSTS"] == ["203.0.113.2"]
    door = full_site().front_door
    assert door is not None
    named = make_plan(front_door=door.model_copy(update={"hostname": "cloud.example.org"}))
    assert settings(named)["ALLOWED_HOSTS"] == ["cloud.example.org", "203.0.113.2"]


def test_cookies_travel_encrypted_only() -> None:
    values = settings(make_plan())
    assert values["SESSION_COOKIE_SECURE"]
    assert values["CSRF_COOKIE_SECURE"]
    assert values["SESSION_COOKIE_HTTPONLY"]
    assert values["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https")


def test_a_session_lasts_as_set_and_its_token_no_shorter() -> None:
    dashboard = full_site().dashboard
    assert dashboard is not None
    for timeout_s, token_s in ((60, 28800), (1800, 28800), (86400, 86400)):
        plan = make_plan(dashboard=dashboard.model_copy(update={"session_timeout_s": timeout_s}))
        values = settings(plan)
        assert values["SESSION_TIMEOUT"] == values["SESSION_COOKIE_AGE"] == timeout_s
        assert f"expiration = {token_s}\n" in keystone.render_conf(plan)
    assert "expiration" not in keystone.render_conf(make_plan(dashboard=None))


def test_sessions_need_no_cache_to_live() -> None:
    values = settings(make_plan())
    assert values["SESSION_ENGINE"] == "django.contrib.sessions.backends.db"
    assert "memcache" not in horizon_settings.render_settings(make_plan())


def test_ended_sessions_are_asked_about_before_horizon_is() -> None:
    assert settings(make_plan())["MIDDLEWARE"] == (
        "horizons.own",
        "horizon_sessions.EndedSessions",
    )


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/static/dashboard/css/output.361cca58bb99.css", "for ever"),
        ("/static/dashboard/js/angular_template_cache_preloads.6a59a637228d.js", "for ever"),
        ("/static/dashboard/img/logo-splash.svg", "an hour"),
        ("/static/dashboard/js/output.361cca58bb99.js?x=/static/y", "an hour"),
        ("/auth/login/", "not"),
        ("/auth/login/?next=/static/a.361cca58bb99.css", "not"),
    ],
)
def test_only_files_with_a_hash_in_their_name_are_kept_for_ever(path: str, kept: str) -> None:
    """The rules are tried in uWSGI's way: in order, until one says ``last``."""
    rules = re.findall(
        r"^response-route-uri = (\S+) (.+)$", horizon.render_uwsgi(make_plan()), re.M
    )
    headers = []
    for pattern, action in rules:
        if re.search(pattern, path):
            if action == "last:":
                break
            headers.append(action)
    cached = [header for header in headers if "Cache-Control" in header]
    if kept == "not":
        assert not headers
    else:
        assert len(cached) == 1
        assert ("immutable" in cached[0]) == (kept == "for ever")


def test_the_application_restarts_when_any_of_its_files_changed() -> None:
    plan = make_plan()
    unit = next(one for one in horizon.horizon_units(plan) if one.name == horizon.SERVICE)
    assert isinstance(unit, Unit)
    written = {one.path for one in operations(plan) if isinstance(one, File)}
    of_the_timer = {path for path in written if "horizon-sessions" in path}
    assert set(unit.restart_on) == written - of_the_timer
