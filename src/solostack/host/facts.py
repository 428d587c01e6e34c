"""Looks at a physical host: one script over one Executor, and a tiny guest for KVM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from solostack.doors.process import Executor
from solostack.errors import CommandError, HostError
from solostack.host import probe_script
from solostack.host.kvm import NOT_PROBED, probe_kvm
from solostack.host.probe_observation import HostObservation
from solostack.host.probe_parse import build_request, parse_observation
from solostack.plan.model import HostFacts

PROBE_TIMEOUT_S = 180.0
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ElementTree.ParseError)
"""What reading an answer that is not the script's can end in."""


def read_facts(executor: Executor, *, name: str) -> HostFacts:
    """Look at the executor's machine and return what the plan needs of it.

    Raises:
        ConnectError: the machine cannot be reached.
        HostError: it was reached and could not be looked at.
    """
    return read_observation(executor, name=name).facts()


def read_observation(
    executor: Executor,
    *,
    name: str,
    boot_guest: bool = True,
    libvirt_uri: str = "qemu:///system",
) -> HostObservation:
    """Look at the executor's machine, called name in the site; two round trips, changes nothing.

    boot_guest False leaves KVM unknown and saves the second round trip. libvirt_uri is for a
    libvirt other than the system's own.

    Raises:
        ConnectError: the machine cannot be reached.
        HostError: it was reached and could not be looked at.
    """
    raw = _collect(executor, build_request(libvirt_uri=libvirt_uri))
    guest = probe_kvm(executor) if boot_guest else NOT_PROBED
    try:
        return parse_observation(raw, name=name, guest=guest)
    except UNREADABLE as error:
        raise HostError(
            f"{name}: what the host probe saw cannot be read: {type(error).__name__}: {error}",
            hint=f"see that ip, ss, nft and virsh on {name} are Debian's own",
        ) from error


def _collect(executor: Executor, request: Mapping[str, Any]) -> Mapping[str, Any]:
    source = Path(probe_script.__file__).read_text(encoding="utf-8")
    script = f"{source}\nmain({json.dumps(request)!r})\n".encode()
    try:
        done = executor.run(("python3", "-I", "-"), stdin=script, timeout_s=PROBE_TIMEOUT_S)
        answer: Mapping[str, Any] = json.loads(done.text)
    except CommandError as error:
        raise HostError(
            f"{executor.name}: the host could not be looked at: {error.message}",
            details=error.details,
            hint=f"see that python3 (3.11 or newer) works on {executor.name}: apt install python3",
        ) from error
    except ValueError as error:
        raise HostError(
            f"{executor.name}: the host probe's answer is not JSON: {error}",
            hint=f"log in to {executor.name} and see what python3 -I prints besides",
        ) from error
    return answer
