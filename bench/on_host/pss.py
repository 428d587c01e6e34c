"""Print the memory, in MiB, of a control group or of a VM; runs on the host.

Proportional set size: shared pages are counted once (proc_pid_smaps(5)). Of a VM, all of QEMU.
"""

import pathlib
import sys

wanted = sys.argv[1]
total_kib = 0
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        group = (process / "cgroup").read_text()
        line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        if wanted in group or (wanted in line and "qemu-system" in line):
            roll = (process / "smaps_rollup").read_text()
            total_kib += int(roll.split("Pss:")[1].split()[0])
    except (OSError, IndexError):
        # It ended meanwhile.
        continue
print(total_kib // 1024)
