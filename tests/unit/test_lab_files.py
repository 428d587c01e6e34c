"""What is written for a lab: into hosts, for ssh and sites, as boot script and provider rules."""

import shlex
from pathlib import Path

import pytest

from solostack.lab import bootscript, hostfiles, upstream
from solostack.lab.hostfiles import HostFile, Identity
from solostack.lab.spec import SCATTERED, LabSpec, Provider
from solostack.lab.state import HostState
from solostack.site.loader import parse_site
from solostack.site.model import External, ExternalMethod

IDENTITY = Identity(
    machine_id="0" * 32,
    host_key="PRIVATE\n",
    host_public_key="ssh-ed25519 AAAA phys1\n",
    authorized_key="ssh-ed25519 BBBB lab\n",
)


def make(provider: Provider = Provider.ROUTED, hosts: int = 1) -> LabSpec:
    empty = LabSpec(name="demo", provider=provider, cache=Path("/cache"), hosts=())
    return empty.with_hosts(hosts, Path("/tree"))


def written(spec: LabSpec) -> dict[str, HostFile]:
    files = hostfiles.render_host_files(spec, spec.hosts[0], IDENTITY)
    return {file.path: file for file in files}


def test_a_host_has_an_identity_and_lets_the_lab_in() -> None:
    files = written(make())
    assert files["/etc/hostname"].content == "phys1\n"
    assert files["/etc/machine-id"].content == "0" * 32 + "\n"
    assert files["/etc/ssh/ssh_host_ed25519_key"].mode == 0o600
    assert files["/root/.ssh/authorized_keys"].content == IDENTITY.authorized_key


@pytest.mark.parametrize("provider", Provider)
def test_a_host_is_configured_by_networkd_as_its_provider_says(provider: Provider) -> None:
    text = written(make(provider))["/etc/systemd/network/10-peth0.network"].content
    scattered = provider is Provider.SCATTERED
    assert "Name=peth0\n" in text
    assert "Gateway=203.0.113.1\n" in text
    assert f"Address=203.0.113.2/{32 if scattered else 24}\n" in text
    assert ("GatewayOnLink=yes" in text) == scattered


def test_known_hosts_has_a_line_per_address_without_comments() -> None:
    keys = {"203.0.113.3": "ssh-ed25519 AAAB phys2\n", "203.0.113.2": "ssh-ed25519 AAAA phys1\n"}
    assert hostfiles.render_known_hosts(keys) == (
        "203.0.113.2 ssh-ed25519 AAAA\n203.0.113.3 ssh-ed25519 AAAB\n"
    )


def test_the_site_file_of_a_routed_lab_is_a_site() -> None:
    text = hostfiles.render_site(make(hosts=2), Path("/lab/key"), Path("/lab/known_hosts"))
    site = parse_site(text, Path("site.yaml")).site
    assert [(host.name, host.nic) for host in site.hosts] == [
        ("phys1", "peth0"),
        ("phys2", "peth0"),
    ]
    assert site.hosts[0].ssh.key == "/lab/key"
    assert str(site.external.block) == "198.51.100.0/28"


def external(provider: Provider) -> External:
    """What the site of such a lab says of its addresses; the text passed all of a site's rules."""
    text = hostfiles.render_site(make(provider), Path("/k"), Path("/h"))
    assert text.startswith(f"# Lab demo, provider kind {provider}.\n")
    return parse_site(text, Path("site.yaml")).site.external


def test_the_site_of_a_routed_lab_says_no_more_than_its_block() -> None:
    text = hostfiles.render_site(make(), Path("/k"), Path("/h"))
    assert text.endswith("\nexternal:\n  block: 198.51.100.0/28\n")


@pytest.mark.parametrize("provider", [Provider.ON_LINK, Provider.MAC_FILTER])
def test_the_site_of_an_on_link_lab_leaves_the_provider_its_router(provider: Provider) -> None:
    found = external(provider)
    assert found.method is ExternalMethod.PROXY
    assert str(found.block) == "198.51.100.0/29"
    assert [str(address) for address in found.not_ours] == ["198.51.100.1"]


def test_the_site_of_a_scattering_lab_lists_single_addresses() -> None:
    found = external(Provider.SCATTERED)
    assert found.method is ExternalMethod.PROXY
    assert found.block is None
    assert found.addresses == SCATTERED


def test_the_site_of_a_lab_without_addresses_publishes_a_port() -> None:
    found = external(Provider.SINGLE)
    assert found.method is ExternalMethod.PRIVATE
    assert found.block is not None
    assert found.block.is_private
    (published,) = found.published
    assert (published.port, published.to, published.to_port) == (8080, found.block[0], 80)


@pytest.mark.parametrize("provider", Provider)
def test_only_a_subnet_of_the_wire_gives_the_providers_router_an_address(
    provider: Provider,
) -> None:
    addresses = upstream.render_addresses(make(provider))
    assert ("203.0.113.1/24", "dev", "lan") in addresses
    on_link = provider in {Provider.ON_LINK, Provider.MAC_FILTER}
    assert (("198.51.100.1/29", "dev", "lan") in addresses) == on_link


def test_laying_out_keeps_the_modes_of_the_tree(tmp_path: Path) -> None:
    tree, upper = tmp_path / "tree", tmp_path / "upper"
    (tree / "root").mkdir(parents=True)
    (tree / "root").chmod(0o700)
    upper.mkdir()
    files = (
        HostFile(path="/root/.ssh/authorized_keys", content="key\n", mode=0o600),
        HostFile(path="/etc/unit", target="/usr/lib/unit"),
    )
    hostfiles.lay_out(files, tree, upper)
    hostfiles.lay_out(files, tree, upper)
    assert (upper / "root").stat().st_mode & 0o7777 == 0o700
    assert (upper / "etc").stat().st_mode & 0o7777 == 0o755
    assert (upper / "root/.ssh/authorized_keys").stat().st_mode & 0o7777 == 0o600
    assert (upper / "etc/unit").readlink() == Path("/usr/lib/unit")


def test_the_boot_script_names_everything_of_its_host() -> None:
    spec = make()
    state = HostState(Path("/labs/demo/hosts/phys1"))
    script = bootscript.render_boot_script(spec, spec.hosts[0], state)
    words = shlex.split(script, comments=True)
    assert "lowerdir=/tree,upperdir=/labs/demo/hosts/phys1/upper" in script
    assert "--directory=/labs/demo/hosts/phys1/root" in words
    assert "--network-namespace-path=/run/netns/solostack-lab-demo-phys1" in words
    assert "--bind=/cache:/root/.cache/solostack" in words
    assert "--bind=/labs/demo/hosts/phys1/var:/var" in words
    assert f"address {spec.hosts[0].mac}" in script


def test_paths_reach_the_boot_script_quoted() -> None:
    spec = make()
    state = HostState(Path("/labs/$(reboot)/hosts/phys1"))
    script = bootscript.render_boot_script(spec, spec.hosts[0], state)
    assert script.count("$(reboot)") == script.count("/labs/$(reboot)")
    assert "'--directory=/labs/$(reboot)/hosts/phys1/root'" in script


@pytest.mark.parametrize(
    ("provider", "routes"),
    [
        (Provider.ROUTED, (("198.51.100.0/28", "via", "203.0.113.2", "dev", "lan"),)),
        (Provider.ON_LINK, ()),
        (Provider.MAC_FILTER, ()),
        (Provider.SINGLE, ()),
    ],
)
def test_the_provider_finds_public_addresses(
    provider: Provider, routes: tuple[tuple[str, ...], ...]
) -> None:
    assert upstream.render_routes(make(provider)) == routes


def test_a_scattering_provider_finds_each_address_on_the_wire() -> None:
    routes = upstream.render_routes(make(Provider.SCATTERED))
    assert len(routes) > 2
    assert all(route[0].endswith("/32") and route[1:] == ("dev", "lan") for route in routes)


@pytest.mark.parametrize("provider", Provider)
def test_only_a_mac_filter_filters(provider: Provider) -> None:
    rules = upstream.render_filter(make(provider, hosts=2))
    assert bool(rules) == (provider is Provider.MAC_FILTER)
    for host in make(hosts=2).hosts if rules else ():
        assert f'iifname "{host.name}" ether saddr != {host.mac} counter name {host.name} drop' in (
            rules
        )


def test_the_counters_of_a_filter_are_read_by_host() -> None:
    text = (
        '{"nftables": [{"metainfo": {"json_schema_version": 1}}, {"counter": {"family": "bridge", '
        '"name": "phys1", "table": "provider", "handle": 1, "packets": 3, "bytes": 150}}]}'
    )
    assert upstream.parse_violations(text) == {"phys1": 3}
