"""Paths: what is there, and making something else of it, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat

FILE, LINK, DIRECTORY, ABSENT, OTHER = "file", "link", "directory", "absent", "other"


class State:
    """What is at a path. mtime_ns is kept for putting things back; equality leaves it out."""

    __slots__ = ("content", "gid", "kind", "mode", "mtime_ns", "target", "uid")

    def __init__(
        self,
        kind: str,
        *,
        content: bytes = b"",
        mode: int = 0,
        uid: int = 0,
        gid: int = 0,
        target: str = "",
        mtime_ns: int = 0,
    ) -> None:
        self.kind = kind
        self.content = content
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.target = target
        self.mtime_ns = mtime_ns

    def same(self, other: State) -> bool:
        """Say whether both are the same but for times."""
        return self.access() == other.access() and self.same_content(other)

    def same_content(self, other: State) -> bool:
        """Say whether both are the same but for times, mode and owner."""
        return (self.kind, self.content, self.target) == (other.kind, other.content, other.target)

    def access(self) -> tuple[int, int, int]:
        """Return mode, owner and group, as one value to compare."""
        return (self.mode, self.uid, self.gid)


NOTHING = State(ABSENT)


def look(path: str) -> State:
    """Return what is at path now."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
    kind, content, target = OTHER, b"", ""
    if stat.S_ISREG(info.st_mode):
        kind = FILE
        with open(path, "rb") as file:
            content = file.read()
    elif stat.S_ISLNK(info.st_mode):
        kind, target = LINK, os.readlink(path)
    elif stat.S_ISDIR(info.st_mode):
        kind = DIRECTORY
    return State(
        kind,
        content=content,
        target=target,
        mode=0 if kind == LINK else stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        mtime_ns=info.st_mtime_ns,
    )


def put(path: str, wanted: State) -> None:
    """Make wanted of what is at path; the parent must exist. Raises OSError.

    Files and links are replaced in one step (rename(2)), so a reader and a power cut see the old
    or the new one. A directory gives way to something else only when it is empty.
    """
    clear_leftover(path)
    now = look(path)
    if wanted.kind == ABSENT:
        _remove(path, now)
    elif wanted.kind == DIRECTORY:
        _put_directory(path, now, wanted)
    elif wanted.kind == now.kind == FILE and wanted.content == now.content:
        _set_access(path, wanted)
        if wanted.mtime_ns:
            os.utime(path, ns=(wanted.mtime_ns, wanted.mtime_ns))
    else:
        if now.kind == DIRECTORY:
            os.rmdir(path)
        _replace(path, wanted)


def clear_leftover(path: str) -> None:
    """Remove what a killed put left beside path."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(_beside(path))


def write_private(path: str, data: bytes) -> None:
    """Write a file of the agent's own (0600), on disk for sure when this returns."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    clear_leftover(path)
    _replace(path, State(FILE, content=data, mode=0o600))
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Put the names in a folder on disk for sure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: str) -> str:
    # One agent at a time (the lock), so a fixed name does, and a killed one's file is found again.
    # Programs that read whole folders (cron, sudo, sysctl) skip names that begin with a dot.
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.solostack-new")


def _replace(path: str, wanted: State) -> None:
    beside = _beside(path)
    if wanted.kind == LINK:
        os.symlink(wanted.target, beside)
        os.chown(beside, wanted.uid, wanted.gid, follow_symlinks=False)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
            file.write(wanted.content)
            file.flush()
            os.fchown(file.fileno(), wanted.uid, wanted.gid)
            os.fchmod(file.fileno(), wanted.mode)
            # Before it gets its name: whoever is killed after that leaves nothing to put right.
            if wanted.mtime_ns:
                os.utime(file.fileno(), ns=(wanted.mtime_ns, wanted.mtime_ns))
            os.fsync(file.fileno())
    os.rename(beside, path)


def _remove(path: str, now: State) -> None:
    if now.kind == DIRECTORY:
        os.rmdir(path)
    elif now.kind != ABSENT:
        os.unlink(path)


def _put_directory(path: str, now: State, wanted: State) -> None:
    if now.kind != DIRECTORY:
        _remove(path, now)
        os.mkdir(path, 0o700)
    _set_access(path, wanted)


def _set_access(path: str, wanted: State) -> None:
    # The owner first: chown(2) clears the set-user-ID bit.
    os.chown(path, wanted.uid, wanted.gid)
    os.chmod(path, wanted.mode)
