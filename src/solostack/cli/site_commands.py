"""The verbs around a site file that change nothing on a host: init, check, plan, addresses.

Owns their arguments and how their results look. Must not know how a plan is made.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solostack.cli import render
from solostack.cli.examples import examples
from solostack.cli.progress import open_progress
from solostack.errors import HostError, SiteError, UsageError

if TYPE_CHECKING:
    from solostack.plan.model import HostFacts, Plan
    from solostack.site.loader import LoadedSite

# What does the work is imported late: help and completion must answer at once.

DEFAULT_SITE = Path("site.yaml")
SiteFile = Annotated[Path, typer.Option("--file", "-f", help="The site file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    for command, lines in (
        (init, _INIT_EXAMPLES),
        (check, _CHECK_EXAMPLES),
        (plan, _PLAN_EXAMPLES),
        (addresses, _ADDRESSES_EXAMPLES),
        (schema, _SCHEMA_EXAMPLES),
    ):
        app.command(epilog=examples(*lines))(command)


_INIT_EXAMPLES = (
    "solostack init",
    "solostack init --address 203.0.113.2 --nic enp1s0 --block 198.51.100.0/28",
    "solostack init lab.yaml --name lab --address 203.0.113.2 --nic peth0 --block 198.51.100.0/28",
)
_CHECK_EXAMPLES = ("solostack check", "solostack check -f lab.yaml --json")
_PLAN_EXAMPLES = (
    "solostack plan",
    "solostack plan --json > plan.json",
    "solostack plan --facts facts.json",
)
_ADDRESSES_EXAMPLES = ("solostack addresses", "solostack addresses --json")
_SCHEMA_EXAMPLES = ("solostack schema > site.schema.json",)


def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write.")] = DEFAULT_SITE,
    *,
    address: Annotated[str, typer.Option(help="The host's own public (or LAN) address.")] = "",
    nic: Annotated[str, typer.Option(help="Its one network card, as `ip link` names it.")] = "",
    block: Annotated[str, typer.Option(help="The public block, as 198.51.100.0/28.")] = "",
    name: Annotated[str, typer.Option(help="The deployment's name.")] = "cloud",
    host: Annotated[str, typer.Option(help="The host's name.")] = "phys1",
    local: Annotated[
        bool, typer.Option("--local", help="solostack runs on that very host; no SSH.")
    ] = False,
) -> None:
    """Write a commented site file.

    Asks for what is not given. Every key is in the file, the defaults commented out. A schema for
    editors is written beside it. An existing file is never overwritten.
    """
    from solostack.site.loader import parse_site
    from solostack.site.schema import SCHEMA_FILE, render_schema
    from solostack.site.template import Answers, render_site

    if path.exists():
        raise UsageError(
            f"{path} is there already; init does not overwrite it",
            hint=f"look at it with `solostack plan -f {path}`, or write another: solostack init "
            f"{path.with_stem(path.stem + '-2')}",
        )
    answers = Answers(
        address=_given(address, "--address", "the host's own address, as 203.0.113.2"),
        nic=_given(nic, "--nic", "its network card, as enp1s0"),
        block=_given(block, "--block", "the public block, as 198.51.100.0/28"),
        name=name,
        host=host,
        local=local,
    )
    text = render_site(answers)
    try:
        parse_site(text, path)
    except SiteError as error:
        raise UsageError("the answers make no site", details=error.details) from None
    with path.open("x") as file:
        file.write(text)
    path.with_name(SCHEMA_FILE).write_text(render_schema())
    render.show(f"wrote {path}; next: solostack check -f {path}")


def check(*, file: SiteFile = DEFAULT_SITE, json: Json = False) -> None:
    """Say what is wrong with the site or its hosts.

    Every finding says what it is, why it matters and what to do. Changes nothing. Ends with status
    4 when a host is not fit for the site.
    """
    from solostack.cli import check_view
    from solostack.flows.check import check_hosts
    from solostack.site.loader import load_site

    loaded = load_site(file)
    with open_progress() as progress:
        checks = check_hosts(loaded, progress)
    if json:
        render.print_json({"fit": all(each.fit for each in checks), "hosts": checks})
    else:
        check_view.show_checks(checks)
    unfit = [each.host for each in checks if not each.fit]
    if unfit:
        raise HostError(
            f"not fit for this site: {', '.join(unfit)}",
            hint="do what is said with each error, then check again",
        )


def plan(
    *,
    file: SiteFile = DEFAULT_SITE,
    facts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The hosts' facts as JSON, instead of asking them."),
    ] = None,
    json: Json = False,
) -> None:
    """Show what is decided, and what would change.

    Machines, sizes, networks; nothing is touched. Equal site and equal facts give equal bytes, and
    an equal digest. Where the site was brought up before, the differences are shown too.
    """
    from solostack.cli import plan_view
    from solostack.flows.applied import changes_since_applied
    from solostack.flows.deployment import site_state
    from solostack.plan.serial import digest
    from solostack.site.loader import load_site

    loaded = load_site(file)
    made = plan_of(loaded, facts)
    changes = changes_since_applied(site_state(loaded), made)
    if json:
        render.print_json({"digest": digest(made), "plan": made, "changes": changes})
        return
    plan_view.show_plan(made)
    if changes is not None:
        plan_view.show_changes(changes)


def addresses(*, file: SiteFile = DEFAULT_SITE, json: Json = False) -> None:
    """Show the use of every address, and why."""
    from solostack.cli import plan_view
    from solostack.plan.addresses import address_rows
    from solostack.plan.build import home_of
    from solostack.site.loader import load_site
    from solostack.site.model import Role

    site = load_site(file).site
    rows = address_rows(site, home_of(site, Role.NETWORK))
    if json:
        render.print_json({"addresses": rows})
    else:
        plan_view.show_addresses(rows)


def schema() -> None:
    """Print the JSON schema of a site file."""
    from solostack.site.schema import render_schema

    sys.stdout.write(render_schema())


def read_facts(path: Path) -> Mapping[str, HostFacts]:
    """Read hosts' facts from JSON, an object of objects by host name.

    Raises:
        UsageError: the file cannot be read or holds something else.
    """
    import pydantic

    from solostack.plan.model import HostFacts

    try:
        text = path.read_text()
        return pydantic.TypeAdapter(dict[str, HostFacts]).validate_json(text)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(
            f"{path} does not hold hosts' facts", details=str(error).splitlines()
        ) from error


def plan_of(loaded: LoadedSite, facts: Path | None) -> Plan:
    """Plan a site from a file of facts, else from what its hosts are known to be or say."""
    from solostack.flows.deployment import host_executors, site_state
    from solostack.flows.facts import known_facts
    from solostack.plan.build import build_plan

    if facts:
        return build_plan(loaded.site, read_facts(facts))
    return build_plan(loaded.site, known_facts(site_state(loaded), loaded, host_executors(loaded)))


def _given(value: str, option: str, question: str) -> str:
    """Return value, or ask for it where there is somebody to ask."""
    if value:
        return value
    if not sys.stdin.isatty():
        raise UsageError(f"init needs {option}: {question}", hint="see solostack init --help")
    answer: str = typer.prompt(question, err=True)
    return answer
