"""solostack on a lab's host itself, which has no way out to fetch what it needs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from solostack.doors.process import Executor

TIMEOUT_S = 1500


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


def on_host(console: Executor, verb: str, *arguments: str) -> Any:
    """Run one of our commands with --json as root there, for the site in its home.

    With the host's own Python and state; fails the test when it fails.
    """
    command = shlex.join(("/opt/solostack/bin/solostack", verb, *arguments, "--json"))
    script = f"cd /root && HOME=/root {command}"
    done = console.run(("sh", "-c", script), timeout_s=TIMEOUT_S, check=False)
    assert done.status == 0, done.text[-20000:] + done.stderr.decode()[-3000:]
    return json.loads(done.text)
