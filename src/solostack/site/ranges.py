"""The networks of a site: how large they may be, and that none overlaps another. Pure."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping

from solostack.site.document import Location
from solostack.site.fields import IPv4Network
from solostack.site.model import ExternalMethod, Site
from solostack.site.networks import VERIFY_NETWORKS, supernet
from solostack.site.problems import Problem, did_you_mean

LARGEST_BLOCK_PREFIX = 22
SMALLEST_TRANSIT_PREFIX = 30
SMALLEST_TENANT_PREFIX = 29

_UNUSABLE = tuple(
    IPv4Network(each) for each in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")
)
_SPARE_PRIVATE: Mapping[Location, tuple[str, ...]] = {
    ("data", "cidr"): ("172.16.0.0/24", "172.31.16.0/24", "192.168.16.0/24", "100.64.16.0/24"),
    ("external", "transit"): ("10.99.0.0/24", "172.31.99.0/24", "192.168.99.0/24"),
    ("demo", "network"): ("10.10.0.0/24", "172.31.10.0/24", "192.168.10.0/24"),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A network of the site, what it is called in messages, and where it stands.

    public: floating IPs come from it.
    """

    location: Location
    title: str
    network: IPv4Network
    public: bool = False


def check_ranges(site: Site) -> Iterator[Problem]:
    """Yield what is wrong with the sizes of the site's networks and where they overlap."""
    yield from _sizes(site)
    yield from _overlaps(site)
    yield from _no_room_for_verify(site)


def ranges(site: Site) -> tuple[Range, ...]:
    """Return every network of the site, those of floating IPs first."""
    external = site.external
    found = []
    if external.block is not None:
        private = external.method is ExternalMethod.PRIVATE
        title = "the private block" if private else "the public block"
        block = Range(
            location=("external", "block"), title=title, network=external.block, public=True
        )
        found.append(block)
    for index, address in enumerate(external.addresses):
        network = IPv4Network(address)
        if external.block is None or not network.subnet_of(external.block):
            location = ("external", "addresses", index)
            title = "the public address"
            found.append(Range(location=location, title=title, network=network, public=True))
    found += [
        Range(location=("data", "cidr"), title="the data network", network=site.data.cidr),
        Range(
            location=("external", "transit"), title="the transit network", network=external.transit
        ),
    ]
    if site.demo is not None:
        title = "the demo project's network"
        found.append(Range(location=("demo", "network"), title=title, network=site.demo.network))
    return tuple(found)


def unusable(network: IPv4Network) -> bool:
    """Say whether a network holds addresses that no machine can have."""
    return any(network.overlaps(each) for each in _UNUSABLE)


def block_is_sound(site: Site) -> bool:
    """Say whether there is a block of usable addresses, small enough to be looked through."""
    block = site.external.block
    return block is not None and block.prefixlen >= LARGEST_BLOCK_PREFIX and not unusable(block)


def _sizes(site: Site) -> Iterator[Problem]:
    block = site.external.block
    if block is not None and block.prefixlen < LARGEST_BLOCK_PREFIX:
        yield Problem(
            location=("external", "block"),
            expected=f"a block between /{LARGEST_BLOCK_PREFIX} and /32",
            found=f"{block}",
            suggestion=did_you_mean(f"{block[0]}/{LARGEST_BLOCK_PREFIX}"),
        )
    for each in ranges(site):
        if unusable(each.network):
            yield Problem(
                location=each.location,
                expected="addresses machines can have",
                found=f"{each.network} (this-host, loopback, link-local or multicast)",
                suggestion=_spare(site, each),
            )
    if site.external.transit.prefixlen > SMALLEST_TRANSIT_PREFIX:
        yield _too_small(("external", "transit"), site.external.transit, SMALLEST_TRANSIT_PREFIX)
    if site.demo is not None and site.demo.network.prefixlen > SMALLEST_TENANT_PREFIX:
        yield _too_small(("demo", "network"), site.demo.network, SMALLEST_TENANT_PREFIX)


def _too_small(location: Location, network: IPv4Network, prefix: int) -> Problem:
    return Problem(
        location=location,
        expected=f"a network of /{prefix} or larger",
        found=f"{network}",
        suggestion=did_you_mean(network.supernet(new_prefix=prefix)),
    )


def _overlaps(site: Site) -> Iterator[Problem]:
    found = ranges(site)
    for first, second in itertools.combinations(found, 2):
        # An address that stands twice is said by the rules of external.
        if first.network.overlaps(second.network) and not second.public:
            yield _overlap(site, second, first, f"{first.title} ({first.network})")
    private = [each for each in found if not each.public and each.location != ("data", "cidr")]
    for each in private:
        for public in found:
            if not public.public or unusable(public.network):
                continue
            wider = supernet(public.network)
            if each.network.overlaps(wider) and not each.network.overlaps(public.network):
                why = f"{wider}, the wider subnet Neutron needs so that {public.network} is usable"
                if public.network.prefixlen < 32:
                    why += " whole"
                yield _overlap(site, each, public, why)


def _no_room_for_verify(site: Site) -> Iterator[Problem]:
    """Verify makes a tenant network of its own, from a short list, apart from all of these."""
    sound = [each for each in ranges(site) if not unusable(each.network)]
    taken = [supernet(each.network) if each.public else each.network for each in sound]
    if all(any(IPv4Network(text).overlaps(each) for each in taken) for text in VERIFY_NETWORKS):
        yield Problem(
            location=sound[0].location,
            expected="one of " + ", ".join(VERIFY_NETWORKS) + " left free for solostack verify",
            found="every one taken by the site's networks or the wider ones Neutron needs",
        )


def _overlap(site: Site, each: Range, other: Range, what: str) -> Problem:
    return Problem(
        location=each.location,
        other=other.location,
        expected=f"a network apart from {what}",
        found=f"{each.network}",
        suggestion=_spare(site, each),
    )


def _spare(site: Site, each: Range) -> str:
    """Suggest a private network nothing of the site overlaps, another one for each purpose."""
    found = ranges(site)
    taken = [other.network for other in found]
    taken += [IPv4Network(host.address) for host in site.hosts]
    taken += [
        supernet(other.network) for other in found if other.public and not unusable(other.network)
    ]
    candidates = _SPARE_PRIVATE.get(each.location, ())
    prefix = min(max(each.network.prefixlen, 24), SMALLEST_TENANT_PREFIX)
    for text in candidates:
        spare = next(IPv4Network(text).subnets(new_prefix=prefix))
        if not any(spare.overlaps(other) for other in taken):
            return did_you_mean(spare)
    return ""
