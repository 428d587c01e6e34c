"""Images are copied piece by piece between real files, resumed, and refused when they differ."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from solostack.cloud import staging
from solostack.doors.process import LocalExecutor
from solostack.doors.progress import Progress
from solostack.errors import ImageError

pytestmark = pytest.mark.host


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(staging, "STAGING", str(tmp_path / "staging"))
    return tmp_path / "staging"


def stage(path: Path, digest: str) -> None:
    image = {"name": "debian", "source": str(path), "sha256": digest}
    with Progress().step("stage") as step:
        staging.stage_image(LocalExecutor("host"), LocalExecutor("node"), image, step=step)


def make_image(tmp_path: Path, pieces: float) -> tuple[Path, str]:
    path = tmp_path / "with a space.raw"
    path.write_bytes(os.urandom(int(pieces * (staging.PIECE_MIB << 20))))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("pieces", [0.0, 0.3, 1.0, 1.5])
def test_a_file_arrives_whole(tmp_path: Path, folder: Path, pieces: float) -> None:
    path, digest = make_image(tmp_path, pieces)
    stage(path, digest)
    assert (folder / digest).read_bytes() == path.read_bytes()
    assert [entry.name for entry in folder.iterdir()] == [digest]
    assert (folder / digest).stat().st_mode & 0o077 == 0


def test_an_interrupted_copy_goes_on(tmp_path: Path, folder: Path) -> None:
    path, digest = make_image(tmp_path, 1.5)
    folder.mkdir()
    piece = staging.PIECE_MIB << 20
    # The first piece counts as copied: were it copied again, its mark would be gone.
    (folder / f"{digest}.part").write_bytes(b"x" * piece + b"half a piece")
    stage(path, digest)
    assert (folder / digest).read_bytes() == b"x" * piece + path.read_bytes()[piece:]


def test_another_file_is_refused(tmp_path: Path, folder: Path) -> None:
    path, _ = make_image(tmp_path, 0.1)
    with pytest.raises(ImageError, match="sha256") as raised:
        stage(path, "0" * 64)
    assert "site file" in raised.value.hint
    assert not folder.exists()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="nowhere") as raised:
        stage(tmp_path / "nowhere", "0" * 64)
    assert "host" in raised.value.hint
