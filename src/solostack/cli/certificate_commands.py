"""`solostack certificates`: the site's own authority and what it signed.

Owns their arguments and how they look. Must not know how a certificate is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solostack.cli import render
from solostack.cli.examples import examples
from solostack.cli.site_commands import DEFAULT_SITE, Json, SiteFile
from solostack.errors import UsageError

if TYPE_CHECKING:
    from solostack.flows.certificates import Certificate
    from solostack.site.loader import LoadedSite

certificates_app = typer.Typer(
    name="certificates",
    help="The site's own certificate authority and what it signed.\n\n"
    "up makes certificates and renews them by itself when fewer than 30 days are left.",
    no_args_is_help=True,
    epilog=examples("solostack certificates list", "solostack certificates export -o ca.pem"),
)


@certificates_app.command(
    "list", epilog=examples("solostack certificates list", "solostack certificates list --json")
)
def list_(*, file: SiteFile = DEFAULT_SITE, json: Json = False) -> None:
    """Show every certificate in use: subject, names, until when it is valid, where it is used."""
    from solostack.flows import certificates_by_hand as flow

    _show(flow.certificates_of(_load(file)), json=json)


@certificates_app.command(
    epilog=examples(
        "solostack certificates export", "solostack certificates export --output cloud-ca.pem"
    )
)
def export(
    *,
    file: SiteFile = DEFAULT_SITE,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it there; never over a file."),
    ] = None,
    json: Json = False,
) -> None:
    """Give out the authority's certificate, for browsers and clients. Its key stays here."""
    from solostack.flows import certificates_by_hand as flow

    text = flow.authority_of(_load(file))
    if output is not None:
        _write_new(output, text)
    if json:
        render.print_json({"certificate": text, "file": None if output is None else str(output)})
    elif output is not None:
        render.show(f"written: {output}")
    else:
        render.show(text.rstrip())


@certificates_app.command(
    epilog=examples("solostack certificates renew", "solostack certificates renew front_door")
)
def renew(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Which; every server's when left out. ca: the authority, all follow."),
    ] = None,
    *,
    file: SiteFile = DEFAULT_SITE,
    json: Json = False,
) -> None:
    """Make certificates anew, as after a key was seen by others; up puts them in place.

    After a renewed ca every client needs the new file.
    """
    from solostack.flows import certificates_by_hand as flow

    _show(flow.renew(_load(file), names or ()), json=json)
    if not json:
        render.show(f"put them in place: solostack up -f {file}")


def _show(found: Sequence[Certificate], *, json: bool) -> None:
    if json:
        render.print_json({"certificates": [_value(each) for each in found]})
        return
    if not found:
        render.show("there are none: solostack up makes what the site needs")
        return
    columns = ("certificate", "subject", "names", "valid until", "days left", "used by")
    rows = [
        (
            each.name,
            each.subject.removeprefix("CN="),
            ", ".join(each.names) or None,
            f"{each.valid_until:%Y-%m-%d %H:%M}",
            "EXPIRED" if each.expired else each.days_left,
            _use(each),
        )
        for each in found
    ]
    render.print_table(columns, rows)


def _use(each: Certificate) -> str:
    notes = ["your own"] if each.own else []
    notes += ["a new one waits for solostack up"] if each.waiting else []
    return f"{each.used} ({', '.join(notes)})" if notes else each.used


def _value(each: Certificate) -> dict[str, object]:
    return {
        "name": each.name,
        "subject": each.subject,
        "names": each.names,
        "valid_until": each.valid_until.isoformat(),
        "days_left": each.days_left,
        "used": each.used,
        "own": each.own,
        "waiting": each.waiting,
        "sha256": each.fingerprint,
    }


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", hint="give --output another file"
        ) from error


def _load(file: Path) -> LoadedSite:
    from solostack.site.loader import load_site

    return load_site(file)
