"""Put this project and what it needs onto a lab's host, which has no way out to fetch it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from solostack.doors.process import Executor


def install_on_host(console: Executor, folder: Path) -> None:
    """Install solostack and what it needs into a virtual environment on the host, from wheels."""
    project = Path(__file__).parents[2]
    version = console.run(("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    wheels = folder / "wheels"
    subprocess.run(
        [*pip, "download", "-q", "--only-binary=:all:", "--python-version", version.text.strip(),
         "--no-deps", "-r", project / "requirements.lock", "-d", wheels],
        check=True,
    )  # fmt: skip
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", wheels, project], check=True)
    archive = folder / "wheels.tar"
    subprocess.run(["tar", "-C", wheels, "-cf", archive, "."], check=True)
    console.run(("sh", "-c", "mkdir -p /opt/wheels && tar -x -C /opt/wheels -f -"), stdin=archive)
    console.run(
        ("sh", "-c", "python3 -m venv --system-site-packages /opt/solostack && "
         "/opt/solostack/bin/pip install -q --no-index --find-links /opt/wheels 'solostack[dev]'"),
        timeout_s=300,
    )  # fmt: skip
