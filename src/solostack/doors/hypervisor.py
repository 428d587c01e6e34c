"""The door to libvirt: the only module that imports it.

Owns opening a connection, the time a call may take, bulk calls and the translation of libvirt's
errors. What leaves it is plain records; it must not know what they are used for.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import itertools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from solostack.doors.bounded import in_thread
from solostack.doors.hypervisor_errors import (
    HypervisorError,
    explain_lost,
    explain_missing_library,
    explain_open_failure,
    explain_timeout,
    split_uri,
    unattended_uri,
)
from solostack.doors.hypervisor_records import (
    Bulk,
    DomainRecord,
    DomainText,
    Lease,
    RawDomain,
    build_record,
)

try:
    import libvirt  # type: ignore[import-untyped]
except ImportError:  # the rest of solostack must load without it; connect() says what to install
    libvirt = None

DEFAULT_URI = "qemu:///system"
DEFAULT_TIMEOUT_S = 15.0
# Elements of this namespace in a domain's <metadata> say which control node of which site it is.
NODE_XML_NAMESPACE = "https://solostack.example/xmlns/domain/1.0"

# A thread fetches this many XML texts. The time limit is per batch, so one from another machine is
# small enough for a slow link; one from this machine saves changing threads, which costs more than
# the texts do. Several at once there would only fight for the interpreter's lock.
LOCAL_BATCH = 128
REMOTE_BATCH = 16
# libvirtd.conf max_client_requests is 5: more calls at once would only wait in the daemon.
REMOTE_BATCHES_AT_ONCE = 5
_LOST_TEXTS = (
    "client socket is closed",
    "Cannot recv data",
    "Cannot write data",
    "End of file while reading data",
)
AGENT_SOURCE = 1  # VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT

T = TypeVar("T")
RawConnection = Any  # libvirt.virConnect


class Connection:
    """An open libvirt connection. Use it in a with statement, or close it.

    raw is libvirt's own connection, for whatever this class does not offer; its calls are neither
    bounded in time nor translated. A call that exceeds timeout_s raises HypervisorConnectError and
    the connection is then of no more use: the blocked call cannot be taken back.
    """

    def __init__(self, raw: RawConnection, *, uri: str, read_only: bool, timeout_s: float) -> None:
        self.raw = raw
        self.uri = uri
        self.read_only = read_only
        self.timeout_s = timeout_s
        self._stuck = False
        parts = split_uri(uri)
        self._is_remote = parts is not None and parts.is_remote

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; closing twice is allowed."""
        raw, self.raw = self.raw, None
        if raw is not None and not self._stuck:
            with contextlib.suppress(libvirt.libvirtError):
                raw.close()

    def hostname(self) -> str | None:
        """Return the host's own name; None when its driver does not say."""
        try:
            return str(self.call(self.raw.getHostname, "asking for the host's name"))
        except HypervisorError:
            return None

    def records(self, *, want_blocks: bool = False, want_usage: bool = True) -> Bulk:
        """Return all domains, active and inactive, with a fixed small number of calls.

        want_usage asks for state, processors and memory, want_blocks for the sizes of disks.
        Sources: virConnectListAllDomains, virConnectGetAllDomainStats.
        """
        return self.call(
            lambda: _read_records(self.raw, want_blocks=want_blocks, want_usage=want_usage),
            "listing the domains",
        )

    def record(self, handle: RawDomain, *, want_blocks: bool = False) -> DomainRecord:
        """Return one domain. Raises HypervisorError when it has vanished."""
        return self.call(
            lambda: _read_record(self.raw, handle, want_blocks=want_blocks),
            "reading a domain",
        )

    def find(self, *, name: str = "", uuid: str = "", number: int = -1) -> RawDomain | None:
        """Return libvirt's object of the domain with that name, UUID or id, if there is one."""
        return self.call(
            lambda: _find(self.raw, name=name, uuid=uuid, number=number), "looking for a domain"
        )

    def names(self) -> tuple[str, ...]:
        """Return the names of all domains, sorted."""
        handles = self.call(self.raw.listAllDomains, "listing the domains")
        return tuple(sorted(handle.name() for handle in handles))

    def texts(
        self, records: Iterable[DomainRecord], *, sources: Sequence[int] = ()
    ) -> Iterator[DomainText]:
        """Yield every record with its XML, in order, without ever holding more than a few.

        sources (virDomainInterfaceAddressesSource) are asked for the addresses of active domains,
        one call each; HypervisorError when this connection may not ask.

        A domain that vanished meanwhile, or whose XML is refused, comes without. Several requests
        are on their way at once when the host is another machine.
        """
        waiting: collections.deque[concurrent.futures.Future[list[DomainText]]]
        waiting = collections.deque()
        batches = _batched(records, REMOTE_BATCH if self._is_remote else LOCAL_BATCH)
        for batch in itertools.islice(batches, REMOTE_BATCHES_AT_ONCE if self._is_remote else 1):
            waiting.append(self._start(_reader_of(batch, sources)))
        while waiting:
            yield from self._wait(waiting.popleft(), "reading the domains")
            for batch in itertools.islice(batches, 1):
                waiting.append(self._start(_reader_of(batch, sources)))

    def leases(self) -> tuple[Lease, ...]:
        """Return the DHCP leases of all active networks; none when the driver cannot say."""
        return self.call(lambda: _read_leases(self.raw), "reading the DHCP leases")

    def volume_texts(self) -> tuple[tuple[str, str], ...]:
        """Return (pool name, volume XML) of every volume in the active storage pools."""
        return self.call(lambda: _read_volumes(self.raw), "reading the storage pools")

    def call(self, work: Callable[[], T], what: str) -> T:
        """Run work, which calls libvirt, within timeout_s; what is for the message.

        Raises HypervisorConnectError for a lost connection or a call that takes too long,
        HypervisorError for anything else that libvirt refuses.
        """
        return self._wait(self._start(work), what)

    def _start(self, work: Callable[[], T]) -> concurrent.futures.Future[T]:
        if self.raw is None:
            raise HypervisorError(f"{self.uri}: this connection is closed")
        if self._stuck:
            raise explain_timeout(self.uri, "answering an earlier call", self.timeout_s)
        return in_thread(work)

    def _wait(self, future: concurrent.futures.Future[T], what: str) -> T:
        try:
            return future.result(self.timeout_s)
        except concurrent.futures.TimeoutError:
            self._stuck = True
            raise explain_timeout(self.uri, what, self.timeout_s) from None
        except libvirt.libvirtError as error:
            raise self._translate(error, what) from error

    def _translate(self, error: Any, what: str) -> Exception:  # noqa: ANN401 (no types there)
        if _is_lost(error):
            return explain_lost(self.uri, str(error))
        hint = ""
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_DENIED and self.read_only:
            hint = "this needs a read-write connection: connect(uri, read_only=False)"
        return HypervisorError(
            f"{self.uri}: libvirt failed {what}", details=(str(error),), hint=hint
        )


def connect(
    uri: str | None = None,
    read_only: bool = True,  # noqa: FBT001, FBT002 (the order of libvirt's own open calls)
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Connection:
    """Open a connection to a libvirt daemon; use it as a context manager.

    uri is any URI of libvirt (libvirt.org/uri.html), qemu:///system by default. ssh never asks a
    question at the terminal. timeout_s bounds the opening and each later call. libvirt's habit of
    printing errors to standard error is switched off in the whole process.

    Raises HypervisorConnectError; its failure says whether the daemon is absent, permission is
    missing, the URI is bad, the host unreachable, its SSH key unknown, or the time was up.
    """
    if libvirt is None:
        raise explain_missing_library()
    wanted = DEFAULT_URI if uri is None else uri
    libvirt.registerErrorHandler(_ignore_error, None)
    opener = libvirt.openReadOnly if read_only else libvirt.open
    future = in_thread(lambda: opener(unattended_uri(wanted)))
    try:
        raw = future.result(timeout_s)
    except concurrent.futures.TimeoutError:
        # The call cannot be taken back; should it ever succeed, its connection is closed at once.
        future.add_done_callback(_close_late)
        raise explain_timeout(wanted, "connecting", timeout_s) from None
    except libvirt.libvirtError as error:
        raise explain_open_failure(wanted, str(error)) from error
    return Connection(raw, uri=wanted, read_only=read_only, timeout_s=timeout_s)


def adopt(raw: RawConnection, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Connection:
    """Wrap a connection that was opened with libvirt's own binding; its owner closes it."""
    connection = Connection(raw, uri="libvirt", read_only=False, timeout_s=timeout_s)
    connection.uri = str(connection.call(raw.getURI, "asking for its URI"))
    return connection


def adopt_domain(handle: RawDomain, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Connection:
    """Wrap the connection that a libvirt domain object came from."""
    return adopt(handle.connect(), timeout_s=timeout_s)


def is_raw_connection(value: object) -> bool:
    """Return whether value is libvirt's own connection object."""
    return libvirt is not None and isinstance(value, libvirt.virConnect)


def is_raw_domain(value: object) -> bool:
    """Return whether value is libvirt's own domain object."""
    return libvirt is not None and isinstance(value, libvirt.virDomain)


def _ignore_error(context: object, error: object) -> None:
    """Take libvirt's error and print nothing: every error is raised as an exception as well."""


def _close_late(future: concurrent.futures.Future[RawConnection]) -> None:
    if future.exception() is None:
        with contextlib.suppress(libvirt.libvirtError):
            future.result().close()


def _batched(records: Iterable[DomainRecord], size: int) -> Iterator[list[DomainRecord]]:
    source = iter(records)
    while batch := list(itertools.islice(source, size)):
        yield batch


def _reader_of(
    batch: Sequence[DomainRecord], sources: Sequence[int]
) -> Callable[[], list[DomainText]]:
    return lambda: [_read_text(record, sources) for record in batch]


def _read_text(record: DomainRecord, sources: Sequence[int]) -> DomainText:
    asked = sources if record.id is not None else ()
    try:
        xml = record.handle.XMLDesc(0)
        leases = tuple((source, _read_addresses(record.handle, source)) for source in asked)
        return DomainText(record=record, xml=xml, leases=leases)
    except libvirt.libvirtError as error:
        if _is_lost(error) or error.get_error_code() == libvirt.VIR_ERR_OPERATION_DENIED:
            raise
        gone = error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
        why = "it vanished while the host was read" if gone else f"its XML was refused: {error}"
        return DomainText(record=record, xml=None, why=why, vanished=gone)


def _is_lost(error: Any) -> bool:  # noqa: ANN401 (no types there)
    code = error.get_error_code()
    if code in (libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_NO_CONNECT):
        return True
    # src/rpc/virnetclient.c and virnetsocket.c have no number of their own for it.
    return any(words in str(error) for words in _LOST_TEXTS)


def _stats_groups(*, want_blocks: bool, want_usage: bool) -> int:
    groups = 0
    if want_usage:
        groups |= libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
        groups |= libvirt.VIR_DOMAIN_STATS_BALLOON | libvirt.VIR_DOMAIN_STATS_VCPU
    if want_blocks:
        groups |= libvirt.VIR_DOMAIN_STATS_BLOCK
    return groups


def _read_records(raw: RawConnection, *, want_blocks: bool, want_usage: bool) -> Bulk:
    handles = raw.listAllDomains(0)
    autostart = persistent = None
    if want_usage:
        autostart = _flagged(raw, libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)
        persistent = _flagged(raw, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    notes: list[str] = []
    groups = _stats_groups(want_blocks=want_blocks, want_usage=want_usage)
    stats = _bulk_stats(raw, handles, groups, notes)
    # Some drivers (test, lxc) have bulk statistics without processor time, or none at all.
    knows_usage = not want_usage or any("cpu.time" in value for value in stats.values())
    records = []
    for handle in handles:
        key = handle.UUID()
        values = dict(stats.get(key, {}))
        if not knows_usage:
            values = {**_single_usage(handle, values), **values}
        records.append(
            build_record(
                handle,
                values,
                autostart=None if autostart is None else key in autostart,
                persistent=None if persistent is None else key in persistent,
            )
        )
    return Bulk(records=tuple(records), notes=tuple(notes))


def _read_record(raw: RawConnection, handle: RawDomain, *, want_blocks: bool) -> DomainRecord:
    groups = _stats_groups(want_blocks=want_blocks, want_usage=True)
    values = _some_stats(raw, [handle], groups).get(handle.UUID(), {})
    if "cpu.time" not in values:
        values = {**_single_usage(handle, values), **values}
    autostart = None
    with contextlib.suppress(libvirt.libvirtError):
        autostart = bool(handle.autostart())
    return build_record(handle, values, autostart=autostart, persistent=bool(handle.isPersistent()))


def _flagged(raw: RawConnection, flag: int) -> set[bytes] | None:
    """Return the UUIDs of the domains with a flag; one call for all instead of one per domain."""
    try:
        return {handle.UUID() for handle in raw.listAllDomains(flag)}
    except libvirt.libvirtError as error:
        if _is_lost(error):
            raise
        return None


def _bulk_stats(
    raw: RawConnection, handles: Sequence[RawDomain], groups: int, notes: list[str]
) -> dict[bytes, dict[str, Any]]:
    if not groups:
        return {}
    try:
        return _all_stats(raw, groups)
    except libvirt.libvirtError as error:
        if _is_lost(error):
            raise
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return {}
    # One sick domain fails the call for all of them: ask for each, and note the sick ones.
    found: dict[bytes, dict[str, Any]] = {}
    for handle in handles:
        try:
            found.update(_some_stats(raw, [handle], groups))
        except libvirt.libvirtError as error:
            if _is_lost(error):
                raise
            notes.append(f"{handle.name()}: no statistics: {error}")
    return found


def _all_stats(raw: RawConnection, groups: int) -> dict[bytes, dict[str, Any]]:
    # NOWAIT: a domain busy with a job (a backup, a migration) must not hold up the whole list.
    try:
        pairs = raw.getAllDomainStats(groups, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
            raise
        pairs = raw.getAllDomainStats(groups, 0)  # a daemon older than 4.5 knows no NOWAIT
    return {handle.UUID(): values for handle, values in pairs}


def _some_stats(
    raw: RawConnection, handles: list[RawDomain], groups: int
) -> dict[bytes, dict[str, Any]]:
    try:
        pairs = raw.domainListGetStats(
            handles, groups, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return {}
    return {handle.UUID(): values for handle, values in pairs}


def _single_usage(handle: RawDomain, known: Mapping[str, Any]) -> dict[str, Any]:
    """Ask one domain what the bulk call left out; nothing when it vanished meanwhile."""
    found: dict[str, Any] = {}
    try:
        if "state.state" not in known:
            found["state.state"], found["state.reason"] = handle.state()
        if handle.ID() >= 0:
            _, maximum, current, vcpus, time_ns = handle.info()
            found |= {"balloon.maximum": maximum, "balloon.current": current}
            found |= {"vcpu.current": vcpus, "cpu.time": time_ns}
    except libvirt.libvirtError as error:
        if _is_lost(error):
            raise
    return found


def _find(raw: RawConnection, *, name: str, uuid: str, number: int) -> RawDomain | None:
    try:
        if name:
            return raw.lookupByName(name)
        if uuid:
            return raw.lookupByUUIDString(uuid)
        return raw.lookupByID(number)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _read_leases(raw: RawConnection) -> tuple[Lease, ...]:
    leases: list[Lease] = []
    for network in _networks(raw):
        try:
            values = network.DHCPLeases()
        except libvirt.libvirtError as error:  # it ended meanwhile, or its driver has no leases
            if _is_lost(error):
                raise
            continue
        leases.extend(
            Lease(
                mac=str(value["mac"]).lower(),
                device=None,
                address=str(value["ipaddr"]),
                prefix=value.get("prefix"),
            )
            for value in values
            if value.get("mac") and value.get("ipaddr")
        )
    return tuple(leases)


def _networks(raw: RawConnection) -> tuple[Any, ...]:
    try:
        return tuple(raw.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE))
    except libvirt.libvirtError as error:  # a driver without networks, or a user without the right
        if _is_lost(error):
            raise
        return ()


def _read_addresses(handle: RawDomain, source: int) -> tuple[Lease, ...]:
    try:
        found = handle.interfaceAddresses(source, 0)
    except libvirt.libvirtError as error:
        if _is_lost(error) or error.get_error_code() == libvirt.VIR_ERR_OPERATION_DENIED:
            raise
        return ()
    return tuple(
        Lease(
            mac=str(interface["hwaddr"]).lower() if interface.get("hwaddr") else None,
            # A guest agent tells the guest's own device names, which mean nothing on the host.
            device=None if source == AGENT_SOURCE else device,
            address=str(address["addr"]),
            prefix=address.get("prefix"),
        )
        for device, interface in found.items()
        for address in interface.get("addrs") or ()
    )


def _read_volumes(raw: RawConnection) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for pool in raw.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
        name = pool.name()
        for volume in pool.listAllVolumes(0):
            try:
                found.append((name, volume.XMLDesc(0)))
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                    raise
    return tuple(found)
