"""How many cores this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from stages.common.errors import PipelineError

# The environment variable that `cores` reads.
CORES = "RECURSIVE_AUTOENCODER_CORES"
MEMBERSHIP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# Version 2 has quota and period in one file, version 1 in two; microseconds.
FILES = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")


def cores() -> int:
    """The smallest of the process's affinity, its container's CPU quota, rounded up, and `CORES`.
    Raises PipelineError where `CORES` is no whole number above 0."""
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    limits = [len(affinity) or os.cpu_count() or 1, *map(math.ceil, _quotas())]
    if given := os.environ.get(CORES):
        if not given.isdecimal() or int(given) == 0:
            raise PipelineError(f"{CORES} is {given!r}: it should be a whole number above 0")
        limits.append(int(given))
    return min(limits)


def _quotas() -> Iterator[float]:
    """The cores' worth of time that this process's control groups and those around them get."""
    lines = MEMBERSHIP.read_text(encoding="utf-8").splitlines() if MEMBERSHIP.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # A container may not see the group that the path names: its root then is that group.
        group = GROUPS / ("cpu" if controllers else "") / path.lstrip("/")
        for folder in (group, *group.parents):
            files = (folder / name for name in FILES)
            words = [word for file in files if file.is_file() for word in file.read_text().split()]
            if len(words) == 2 and words[0].isdecimal():  # not "max", nor -1
                yield int(words[0]) / int(words[1])
