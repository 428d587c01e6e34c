"""389 Directory Server for real: made, put right, its accounts; and asked as somebody else's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from solostack.errors import ConfigureError, UsageError
from solostack.flows.deployment import role_recipe
from solostack.host.directory_probe import Credentials, DirectorySeen, probe_directory
from solostack.openstack import auth, directory
from solostack.openstack.programs import DIRECTORY as PROGRAMS
from solostack.site.model import Role
from solostack.site.services import ExternalDirectory
from tests.host.directory_world import KEYSTONE, SUFFIX, Server, make_authority, make_plan
from tests.host.engine_container import open_container

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for containers"),
]

MADE = "/var/lib/dirsrv/.solostack-complete"
SETTINGS = "/etc/dirsrv/slapd-solostack"
PASSWORD = "aGoodOne1234"
# As root on the node may do it, and an operator by mistake.
SET_PASSWORD = """
import ldap, ldap.sasl, sys
link = ldap.initialize("ldapi://%2Frun%2Fslapd-solostack.socket")
link.sasl_external_bind_s()
link.modify_s(sys.argv[1], [(ldap.MOD_REPLACE, "userPassword", [sys.argv[2].encode()])])
"""
# Six at a time, ten times each, begun in the same moment: how often was one refused?
SET_TOGETHER = f"""
import json, multiprocessing, sys
sys.path.insert(0, "{PROGRAMS}")
from directory import accounts

wanted = json.load(open("{directory.WANTED}"))
request = dict(action="password", name="ada", password=sys.argv[1])

def set_often(start):
    start.wait()
    refused = 0
    for _ in range(10):
        try:
            accounts.act(wanted, request)
        except Exception:
            refused += 1
    return sys.exit(refused)

fork = multiprocessing.get_context("fork")
start = fork.Barrier(6)
all = [fork.Process(target=set_often, args=(start,)) for _ in range(6)]
for one in all:
    one.start()
for one in all:
    one.join()
print(sum(one.exitcode for one in all))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("directory") / "mount"
    folder.mkdir()
    authority = make_authority("directory")
    with open_container(folder, role_recipe(Role.DIRECTORY, "2025.1")) as box:
        box.shell("echo '127.0.0.1 directory other' >>/etc/hosts")
        # Something else that answers, but not as a directory does.
        box.shell("systemd-run -q --unit=web python3 -m http.server -d /srv 8000")
        one = Server(box, authority)
        one.certify()
        one.apply()
        yield one


def test_a_second_apply_changes_nothing(server: Server) -> None:
    assert server.apply().changed == ()


def test_only_tls_and_nobody_anonymous(server: Server) -> None:
    ports = server.box.shell("ss -Hltn | awk '{print $4}' | sed 's/.*://' | sort -u").split()
    assert "636" in ports
    assert "389" not in ports
    assert server.bind("", "") == "INAPPROPRIATE_AUTH"
    assert server.bind(KEYSTONE, server.secrets[auth.DIRECTORY_BIND_PASSWORD]) == "yes"


def test_users_of_the_site_log_in_with_their_first_password_unless_disabled(
    server: Server,
) -> None:
    assert server.bind("ada", server.secrets["directory_user_ada"]) == "yes"
    refused = server.bind("bo.b-x", server.secrets["directory_user_bo_2eb_2dx"])
    assert refused == "UNWILLING_TO_PERFORM"
    users = server.users()
    assert users["ada"]["groups"] == ["makers"]
    assert users["ada"]["origin"] == "site"


def test_a_user_by_command_from_beginning_to_end(server: Server) -> None:
    new = {"name": "eve", "full_name": "Eve E", "mail": "", "groups": ["makers"]}
    for weak, why in (("short", "at least 10"), ("alllowercase", "categories")):
        with pytest.raises(UsageError, match=why):
            server.ask("add", **new, password=weak)
    assert "eve" not in server.users()
    server.ask("add", **new, password=PASSWORD)
    with pytest.raises(UsageError, match="already"):
        server.ask("add", **new, password=PASSWORD)
    assert server.users()["eve"]["groups"] == ["makers"]
    server.ask("lock", name="eve", locked=True)
    assert server.bind("eve", PASSWORD) == "UNWILLING_TO_PERFORM"
    server.ask("lock", name="eve", locked=False)
    assert server.bind("eve", PASSWORD) == "yes"
    # The site does not know this user: a further apply leaves it alone.
    assert server.apply().changed == ()
    server.ask("leave", name="eve", group="makers")
    assert server.users()["eve"]["groups"] == []
    server.ask("join", name="eve", group="makers")
    server.ask("remove", name="eve")
    assert server.groups()["makers"] == ["ada"]


def test_what_a_command_changed_stays_and_the_site_decides_what_it_says_anew(
    server: Server,
) -> None:
    server.ask("password", name="ada", password=PASSWORD)
    server.ask("lock", name="ada", locked=True)
    assert server.apply().changed == ()
    assert server.bind("ada", PASSWORD) == "UNWILLING_TO_PERFORM"
    server.ask("lock", name="ada", locked=False)
    with pytest.raises(UsageError, match="in the site file"):
        server.ask("remove", name="ada")
    # Not in the site any more: locked, not deleted. Back again: as it was.
    server.apply(make_plan(users=[], groups=[]))
    assert server.users()["ada"]["enabled"] is False
    assert server.groups() == {"makers": [], "empty": []}
    server.apply()
    assert server.users()["ada"]["enabled"] is True
    assert server.groups() == {"makers": ["ada"], "empty": []}
    assert server.bind("ada", PASSWORD) == "yes"


def test_a_group_gone_from_the_site_loses_those_the_site_put_into_it(server: Server) -> None:
    """Else they kept the role that Keystone gave the group; who was put in by hand stays."""
    server.ask("add", name="eve", full_name="", mail="", groups=["makers"], password=PASSWORD)
    without = make_plan(groups=[{"name": "empty"}])
    assert server.apply(without).changed != ()
    assert server.groups() == {"makers": ["eve"], "empty": []}
    assert server.users()["ada"]["groups"] == []
    assert server.apply(without).changed == ()
    # The site decides nothing about it any more, so a site's user can be put in by command.
    server.ask("join", name="ada", group="makers")
    assert server.apply(without).changed == ()
    assert server.groups()["makers"] == ["ada", "eve"]
    server.ask("remove", name="eve")
    server.apply()
    assert server.groups() == {"makers": ["ada"], "empty": []}


def test_names_and_mail_are_as_the_site_writes_them_to_the_letter(server: Server) -> None:
    ada = {"name": "ada", "full_name": "ada LOVELACE", "mail": "Ada@example.org"}
    assert server.apply(make_plan(users=[ada])).changed != ()
    row = server.users()["ada"]
    assert (row["full_name"], row["mail"]) == ("ada LOVELACE", "Ada@example.org")
    server.apply()
    row = server.users()["ada"]
    assert (row["full_name"], row["mail"]) == ("Ada Lovelace", "ada@example.org")
    assert server.apply().changed == ()


def test_blanks_are_no_name(server: Server) -> None:
    server.ask("add", name="eve", full_name=" ", mail=" ", groups=[], password=PASSWORD)
    eve = server.users()["eve"]
    assert (eve["full_name"], eve["mail"]) == ("eve", "")
    server.ask("remove", name="eve")
    # As a site file's text may have come to the node before the site's model took blanks away.
    said = server.box.path(directory.WANTED).read_text()
    try:
        server.box.path(directory.WANTED).write_text(said.replace("Ada Lovelace", " "))
        server.box.shell(f"{directory.COMMAND} ensure {directory.WANTED}")
        assert server.users()["ada"]["full_name"] == "ada"
    finally:
        server.box.path(directory.WANTED).write_text(said)
        server.apply()
    assert server.users()["ada"]["full_name"] == "Ada Lovelace"


def test_ten_wrong_passwords_lock_a_user_but_never_keystone(server: Server) -> None:
    for _ in range(11):
        server.bind("ada", "wrong")
        server.bind(KEYSTONE, "wrong")
    assert server.bind("ada", PASSWORD) == "CONSTRAINT_VIOLATION"
    assert server.bind(KEYSTONE, server.secrets[auth.DIRECTORY_BIND_PASSWORD]) == "yes"
    server.ask("password", name="ada", password=PASSWORD)
    assert server.bind("ada", PASSWORD) == "yes"


def test_commands_at_the_same_time_take_turns(server: Server) -> None:
    assert server.python(SET_TOGETHER, PASSWORD) == "0"
    assert server.bind("ada", PASSWORD) == "yes"


def test_a_command_that_waited_too_long_for_its_turn_says_who_has_it(server: Server) -> None:
    holder = "flock -x /run/solostack-directory.lock sleep 600"
    server.box.shell(f"systemd-run -q --unit=holder {holder}")
    try:
        with pytest.raises(ConfigureError, match="another command") as refused:
            server.ask("lock", name="ada", locked=True)
        assert "lslocks" in refused.value.hint
        assert server.users()["ada"]["enabled"] is True
    finally:
        server.box.shell("systemctl stop holder")


def test_a_password_of_keystone_that_somebody_changed_is_put_right(server: Server) -> None:
    server.python(SET_PASSWORD, KEYSTONE, "anotherOne12")
    assert server.bind(KEYSTONE, server.secrets[auth.DIRECTORY_BIND_PASSWORD]) != "yes"
    assert server.apply().changed == ("step directory server",)
    assert server.bind(KEYSTONE, server.secrets[auth.DIRECTORY_BIND_PASSWORD]) == "yes"


@pytest.fixture
def stopped_server(server: Server) -> Iterator[Server]:
    """The server, off, with a user that only its database knows."""
    new = {"name": "kim", "full_name": "Kim K", "mail": "", "groups": ["makers"]}
    server.ask("add", **new, password=PASSWORD)
    server.box.shell(f"systemctl stop {directory.UNIT}")
    yield server
    server.ask("remove", name="kim")


def test_a_missing_configuration_is_put_back_and_no_user_is_lost(stopped_server: Server) -> None:
    """As when power fails between the two renames by which the server replaces it."""
    stopped_server.box.shell(f"cd {SETTINGS}; mv dse.ldif dse.ldif.bak")
    stopped_server.apply()
    assert stopped_server.bind("kim", PASSWORD) == "yes"
    assert set(stopped_server.users()) == {"ada", "bo.b-x", "kim"}
    assert stopped_server.apply().changed == ()


def test_a_lost_configuration_stops_with_the_command_that_puts_it_back(
    stopped_server: Server,
) -> None:
    box = stopped_server.box
    box.shell(f"cd {SETTINGS}; rm -f dse.ldif.tmp dse.ldif.bak; mv dse.ldif kept; mkdir away; "
              "mv dse.ldif.startOK away")  # fmt: skip
    with pytest.raises(ConfigureError) as none_left:
        stopped_server.apply()
    assert "from a backup of the directory node" in "\n".join(none_left.value.details)
    box.shell(f"cd {SETTINGS}; mv away/dse.ldif.startOK .; rmdir away")
    with pytest.raises(ConfigureError) as lost:
        stopped_server.apply()
    [hint] = [line for line in lost.value.details if "on the directory node: cp" in line]
    box.shell(hint.partition(": ")[2].partition(";")[0])
    box.shell(f"rm {SETTINGS}/kept")
    stopped_server.apply()
    assert stopped_server.bind("kim", PASSWORD) == "yes"


def external(**changes: str) -> ExternalDirectory:
    values = {
        "preset": "ldap",
        "url": "ldaps://directory",
        "bind_dn": KEYSTONE,
        "bind_password_file": "unused",
        "user_tree": f"ou=people,{SUFFIX}",
        "group_tree": f"ou=groups,{SUFFIX}",
    }
    return ExternalDirectory.model_validate(values | changes)


def probe(server: Server, *, password: str = "", ca: str = "", **changes: str) -> DirectorySeen:
    credentials = Credentials(
        password=password or server.secrets[auth.DIRECTORY_BIND_PASSWORD],
        ca=ca or server.authority.certificate,
    )
    return probe_directory(server.box.executor, external(**changes), credentials)


def test_a_directory_that_is_well_is_found_well(server: Server) -> None:
    seen = probe(server)
    assert (seen.step, seen.said) == ("", "")
    assert seen.users is not None
    assert seen.groups is not None
    assert (seen.users.count, seen.groups.count) == (2, 2)
    assert seen.users.lacking["uid"] == 0


@pytest.mark.parametrize(
    ("changes", "step", "kind"),
    [
        ({"url": "ldaps://nobody.invalid"}, "resolve", "name"),
        ({"url": "ldaps://directory:637"}, "connect", "refused"),
        ({"url": "ldaps://other"}, "tls", "name"),
        ({"url": "ldaps://directory:8000"}, "tls", "protocol"),
        ({"url": "ldap://directory:8000"}, "tls", "silent"),
        ({"password": "wrong"}, "bind", "credentials"),
        ({"bind_dn": f"cn=nobody,{SUFFIX}"}, "bind", "credentials"),
        ({"bind_dn": f"uid=bo.b-x,ou=people,{SUFFIX}"}, "bind", "refused"),
        ({"user_tree": f"ou=nowhere,{SUFFIX}"}, "user tree", "absent"),
        ({"user_object_class": "computer"}, "users", "none"),
        ({"user_filter": "(&(uid=ada)(cn=x)"}, "users", "filter"),
        ({"group_tree": f"ou=nowhere,{SUFFIX}"}, "group tree", "absent"),
    ],
)
def test_each_fault_of_somebody_elses_directory_is_told_apart(
    server: Server, changes: dict[str, str], step: str, kind: str
) -> None:
    seen = probe(server, **changes)
    assert (seen.step, seen.kind) == (step, kind), seen


def test_an_attribute_that_is_missing_is_counted(server: Server) -> None:
    seen = probe(server, user_name_attribute="sAMAccountName")
    assert seen.users is not None
    assert seen.users.lacking["sAMAccountName"] == seen.users.count


def test_another_authority_and_an_expired_certificate_are_told_apart(server: Server) -> None:
    seen = probe(server, ca=make_authority("directory").certificate)
    assert (seen.step, seen.kind) == ("tls", "ca")
    server.certify(expired=True)
    server.apply()
    seen = probe(server)
    assert (seen.step, seen.kind) == ("tls", "expired")
    server.certify()
    server.apply()
    assert probe(server).step == ""


def test_a_killed_beginning_does_not_stand_in_the_way(server: Server) -> None:
    """What dscreate left half done goes; moments from its first to its last."""
    half_made = [
        kill_while_it_is_made(server, folder=folder, after_s=after_s)
        for folder, after_s in ((False, 0.0), (True, 0.0), (True, 0.5), (True, 1.5))
    ]
    assert any(half_made)
    server.apply()
    assert server.apply().changed == ()
    assert set(server.users()) == {"ada", "bo.b-x"}


def kill_while_it_is_made(server: Server, *, folder: bool, after_s: float) -> bool:
    """Kill a beginning once dscreate runs (and has made its folder); return if half is left.

    By what is seen, not by the clock: on a busy machine dscreate may begin late, or be over.
    """
    shell = server.box.shell
    shell(f"rm -f {MADE}")
    begun = shell(
        f"setsid {directory.COMMAND} ensure {directory.WANTED} >/dev/null 2>&1 & echo $!"
    ).strip()

    def is_there(test: str) -> bool:
        return server.box.executor.run(("sh", "-c", test), check=False).status == 0

    def is_under_way() -> bool:
        # The folder of the instance before is gone by the time dscreate runs.
        runs = "dscreate from-file" in shell("ps -eo args")
        return runs and (not folder or is_there(f"test -e {SETTINGS}"))

    wait_until(lambda: is_under_way() or not is_there(f"kill -0 {begun}"))
    time.sleep(after_s)
    was_running = "dscreate from-file" in shell("ps -eo args")
    shell(f"kill -KILL -{begun} || true")
    wait_until(lambda: "dscreate from-file" not in shell("ps -eo args"))
    return was_running and is_there(f"test -e {SETTINGS} && ! test -e {MADE}")


def wait_until(ready: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < end_s
        time.sleep(0.2)
