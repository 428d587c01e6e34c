"""The accounts of the site's own directory: users list, add, passwd, disable, enable, remove.

Owns how passwords are asked and shown. Passwords are never arguments: those are in process lists.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solostack.cli import edge, render
from solostack.cli.examples import examples
from solostack.cli.progress import open_progress
from solostack.errors import SolostackError, UsageError

if TYPE_CHECKING:
    from solostack.site.loader import LoadedSite

DEFAULT_SITE = Path("site.yaml")
SiteFile = Annotated[Path, typer.Option("--file", "-f", help="The site file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
UserName = Annotated[str, typer.Argument(metavar="USER", help="The login name.")]
GroupName = Annotated[str, typer.Argument(metavar="GROUP", help="A group of the site file.")]
Generate = Annotated[
    bool, typer.Option("--generate", help="Make a random password and show it, once.")
]
Stdin = Annotated[
    bool, typer.Option("--stdin", help="Read the password from one line of standard input.")
]

users_app = typer.Typer(
    name="users",
    help="The users of the cloud, in the site's own directory.\n\n"
    "They log in at the domain that directory.domain names. Users of an external directory are "
    "managed there.",
    rich_markup_mode=None,
    no_args_is_help=True,
    epilog=examples("solostack users list", "solostack users add ana --group staff"),
)


@users_app.command("list", epilog=examples("solostack users list", "solostack users list --json"))
def list_(*, file: SiteFile = DEFAULT_SITE, json: Json = False) -> None:
    """Show all users, whether they may log in, and their groups."""
    from solostack.flows import users as flow

    with open_progress() as progress:
        users = flow.list_users(_load(file), progress)
    if json:
        render.print_json({"users": users})
        return
    render.print_table(
        ("user", "name", "mail", "enabled", "groups", "made by"),
        [
            (one.name, one.full_name, one.mail or None, one.enabled, " ".join(one.groups) or None,
             one.origin)
            for one in users
        ],
    )  # fmt: skip


@users_app.command(
    epilog=examples(
        "solostack users add ana --full-name 'Ana Ruiz' --mail ana@example.org --group staff",
        "solostack users add robot --generate",
    )
)
def add(
    name: UserName,
    *,
    full_name: Annotated[str, typer.Option(help="Full name; default: the login name.")] = "",
    mail: Annotated[str, typer.Option(help="Mail address.")] = "",
    group: Annotated[
        list[str] | None, typer.Option(help="A group to be in; may be given again.")
    ] = None,
    generate: Generate = False,
    stdin: Stdin = False,
    file: SiteFile = DEFAULT_SITE,
    json: Json = False,
) -> None:
    """Make a user; asks for the password, twice."""
    from solostack.flows import users as flow

    loaded = _load(file)
    flow.require_own_directory(loaded)
    password = _password(name, generate=generate, stdin=stdin)
    user = flow.NewUser(
        name=name, password=password, full_name=full_name, mail=mail, groups=tuple(group or ())
    )
    with open_progress() as progress:
        flow.add_user(loaded, user, progress)
    _tell(name, "added", password if generate else "", json=json)


@users_app.command(
    epilog=examples("solostack users passwd ana", "solostack users passwd ana --generate")
)
def passwd(
    name: UserName,
    *,
    generate: Generate = False,
    stdin: Stdin = False,
    file: SiteFile = DEFAULT_SITE,
    json: Json = False,
) -> None:
    """Give a user a new password, and end its sessions; asks for it, twice."""
    from solostack.flows import users as flow

    loaded = _load(file)
    flow.require_own_directory(loaded)
    password = _password(name, generate=generate, stdin=stdin)
    shown = password if generate else ""
    changed: list[str] = []
    try:
        with open_progress() as progress:
            flow.set_password(
                loaded, name, password, progress, changed=lambda: changed.append(name)
            )
    except SolostackError as error:
        # The sessions go on; nobody but us knows the password that the user has from now on.
        if changed and shown:
            _tell(name, "password changed", shown, json=json, error=error)
        raise
    _tell(name, "password changed", shown, json=json)


@users_app.command(epilog=examples("solostack users disable ana"))
def disable(name: UserName, *, file: SiteFile = DEFAULT_SITE, json: Json = False) -> None:
    """Let a user not log in any more, and end its sessions; everything else of it stays."""
    from solostack.flows import users as flow

    with open_progress() as progress:
        flow.lock_user(_load(file), name, progress, locked=True)
    _tell(name, "disabled", "", json=json)


@users_app.command(epilog=examples("solostack users enable ana"))
def enable(name: UserName, *, file: SiteFile = DEFAULT_SITE, json: Json = False) -> None:
    """Let a user log in again."""
    from solostack.flows import users as flow

    with open_progress() as progress:
        flow.lock_user(_load(file), name, progress, locked=False)
    _tell(name, "enabled", "", json=json)


@users_app.command(epilog=examples("solostack users join ana staff"))
def join(
    name: UserName, group: GroupName, *, file: SiteFile = DEFAULT_SITE, json: Json = False
) -> None:
    """Put a user into a group."""
    from solostack.flows import users as flow

    with open_progress() as progress:
        flow.change_group(_load(file), name, group, progress, member=True)
    _tell(name, f"joined {group}", "", json=json)


@users_app.command(epilog=examples("solostack users leave ana staff"))
def leave(
    name: UserName, group: GroupName, *, file: SiteFile = DEFAULT_SITE, json: Json = False
) -> None:
    """Take a user out of a group."""
    from solostack.flows import users as flow

    with open_progress() as progress:
        flow.change_group(_load(file), name, group, progress, member=False)
    _tell(name, f"left {group}", "", json=json)


@users_app.command(epilog=examples("solostack users remove ana --yes"))
def remove(
    name: UserName,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    file: SiteFile = DEFAULT_SITE,
    json: Json = False,
) -> None:
    """Delete a user. Its projects and what is in them stay."""
    from solostack.flows import users as flow

    loaded = _load(file)
    flow.require_own_directory(loaded)
    if not yes:
        _agree(name)
    with open_progress() as progress:
        flow.remove_user(loaded, name, progress)
    _tell(name, "removed", "", json=json)


def _load(file: Path) -> LoadedSite:
    from solostack.site.loader import load_site

    return load_site(file)


def _agree(name: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("there is nobody to ask here", hint=f"solostack users remove {name} --yes")
    if not typer.confirm(f"delete user {name}?", err=True):
        raise UsageError("stopped at a question; nothing was changed")


def _password(name: str, *, generate: bool, stdin: bool) -> str:
    if generate and stdin:
        raise UsageError("--generate and --stdin exclude each other")
    if generate:
        from solostack.flows.users import generate_password

        return generate_password()
    if stdin:
        return _given(sys.stdin.readline().rstrip("\n"))
    if not sys.stdin.isatty():
        raise UsageError(
            "a password is asked for at a terminal, and here is none",
            hint="give --generate, or --stdin and the password on standard input",
        )
    return _given(
        typer.prompt(
            f"new password of {name}",
            hide_input=True,
            confirmation_prompt="the same again",
            err=True,
        )
    )


def _given(password: str) -> str:
    if not password:
        raise UsageError("the password is empty", hint="give one, or --generate")
    return password


def _tell(
    name: str, done: str, password: str, *, json: bool, error: SolostackError | None = None
) -> None:
    if json:
        more = {"password": password} if password else {}
        failure = edge.to_value(error) if error else {}
        render.print_json({"user": name, "done": done, **more, **failure})
        return
    render.show(f"user {name}: {done}")
    if password:
        render.show(f"password: {password}")
