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
    "solostack init --address 192.168.1.20 --nic eno1 --method private",
)
_BLOCK = "the public block, as 198.51.100.0/28"
_CHECK_EXAMPLES = ("solostack check", "solostack check -f lab.yaml --json")
_PLAN_EXAMPLES = (
    "solostack plan",
    "solostack plan --json > plan.json",
    "solostack plan --facts facts.json",
)
_ADDRESSES_EXAMPLES = (
    "solostack addresses",
    "solostack addresses --live",
    "solostack addresses --prove --json",
)
_SCHEMA_EXAMPLES = ("solostack schema > site.schema.json",)


def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write.")] = DEFAULT_SITE,
    *,
    address: Annotated[str, typer.Option(help="The host's own public (or LAN) address.")] = "",
    nic: Annotated[str, typer.Option(help="Its one network card, as `ip link` names it.")] = "",
    method: Annotated[
        str,
        typer.Option(help="How public addresses reach the host: routed, proxy, bridge, private."),
    ] = "routed",
    block: Annotated[str, typer.Option(help="The public block, as 198.51.100.0/28.")] = "",
    public_address: Annotated[
        list[str] | None,
        typer.Option(help="A single public address (proxy, bridge); may be given again."),
    ] = None,
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
        method=method,
        block=block if public_address or method == "private" else _given(block, "--block", _BLOCK),
        addresses=tuple(public_address or ()),
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
    if method in {"proxy", "bridge"} and answers.block:
        render.show("first list the provider's router, if it is in the block: external.not_ours")
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


def addresses(
    *,
    file: SiteFile = DEFAULT_SITE,
    live: Annotated[
        bool, typer.Option("--live", help="Ask the cloud and its machines who holds each now.")
    ] = False,
    prove: Annotated[
        bool,
        typer.Option("--prove", help="Try each from inside and outside; what is free is lent."),
    ] = False,
    json: Json = False,
) -> None:
    """Show the use of every address, and why; with --live who holds it now.

    With --prove every address that can be a floating IP is tried from the host and from here: what
    an instance holds as it is, the free ones on a test instance that is removed again. The result
    is kept and shown from then on. Ends with status 9 when an address that should work does not.
    """
    from solostack.cli import address_view
    from solostack.flows.addresses import ask_live, known_addresses
    from solostack.flows.prove_addresses import prove_site
    from solostack.site.loader import load_site

    loaded = load_site(file)
    if prove:
        with open_progress() as progress:
            proven = prove_site(loaded, progress)
        address_view.show_addresses(
            known_addresses(loaded, proven.live), loaded.site.external.method, json=json
        )
        failure = proven.failure()
        if failure is not None:
            raise failure
        return
    found = None
    if live:
        with open_progress() as progress:
            found = ask_live(loaded, progress)
    address_view.show_addresses(
        known_addresses(loaded, found), loaded.site.external.method, json=json
    )


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
