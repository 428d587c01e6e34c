"""Names of libvirt's domain states and reasons, in the words of ``virsh domstate --reason``.

Numbers: libvirt-domain.h, enum virDomainState and its reasons, libvirt 11. A number that is not
here is newer than this table and is kept: it becomes "unknown (N)", never an error.
"""

from __future__ import annotations

STATES = (
    "no state",
    "running",
    "idle",
    "paused",
    "in shutdown",
    "shut off",
    "crashed",
    "suspended by PM",
)
SHORT_NAMES = {
    "blocked": "idle",
    "nostate": "no state",
    "off": "shut off",
    "pmsuspended": "suspended by PM",
    "shutdown": "in shutdown",
    "shutoff": "shut off",
    "suspended": "suspended by PM",
}
UNKNOWN = "unknown"

_REASONS: tuple[tuple[str, ...], ...] = (
    ("unknown",),
    (
        "unknown", "booted", "migrated", "restored", "from snapshot", "unpaused",
        "migration canceled", "save canceled", "event wakeup", "crashed", "post-copy",
        "post-copy failed",
    ),
    ("unknown",),
    (
        "unknown", "user", "migrating", "saving", "dumping", "I/O error", "watchdog",
        "from snapshot", "shutting down", "creating snapshot", "crashed", "starting up",
        "post-copy", "post-copy failed", "api error",
    ),
    ("unknown", "user"),
    (
        "unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed",
        "from snapshot", "daemon",
    ),
    ("unknown", "panicked"),
    ("unknown",),
)  # fmt: skip


def state_name(code: int | None) -> str:
    """Return the name of a state; None (the driver did not say) is "unknown"."""
    if code is None:
        return UNKNOWN
    return STATES[code] if 0 <= code < len(STATES) else f"{UNKNOWN} ({code})"


def reason_name(state_code: int | None, reason_code: int | None) -> str:
    """Return the name of a reason, which means something together with its state only."""
    if state_code is None or reason_code is None:
        return UNKNOWN
    reasons = _REASONS[state_code] if 0 <= state_code < len(_REASONS) else ()
    if 0 <= reason_code < len(reasons):
        return reasons[reason_code]
    return f"{UNKNOWN} ({reason_code})"


def parse_state(text: str) -> str | None:
    """Return the state that text means (``shutoff``, ``shut-off``); None if there is none."""
    words = " ".join(text.replace("-", " ").replace("_", " ").split())
    for name in (*STATES, UNKNOWN):
        if words.lower() == name.lower():
            return name
    if words.lower().startswith(f"{UNKNOWN} ("):
        return words.lower()
    return SHORT_NAMES.get(words.lower().replace(" ", ""))
