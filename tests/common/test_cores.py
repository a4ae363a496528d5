"""How many cores a process may use, whatever PyTorch, a container and the user make of it."""

import os
from pathlib import Path

import pytest

from stages.common import cores
from stages.common.errors import PipelineError
from tests.conftest import python


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with the control groups of a process that may run on eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(cores, "MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "GROUPS", tmp_path / "groups")
    monkeypatch.delenv(cores.CORES, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/a.slice/b\n", {"a.slice/cpu.max": "300000 100000", "a.slice/b/cpu.max": "max 1"}, 3),
        ("0::/../seen/outside\n", {"cpu.max": "200000 100000\n"}, 2),
        (
            "3:cpuset:/\n2:cpu,cpuacct:/docker/a\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            1,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_a_quota_of_either_version_limits_the_cores(
    membership: str, files: dict[str, str], expected: int, machine: Path
) -> None:
    (machine / "cgroup").write_text(membership, encoding="utf-8")
    for name, content in files.items():
        (machine / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / "groups" / name).write_text(content, encoding="utf-8")
    assert cores.cores() == expected


@pytest.mark.parametrize(("given", "expected"), [("", 8), ("3", 3), ("64", 8)])
def test_the_user_may_say_fewer(
    given: str, expected: int, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cores.CORES, given)
    assert cores.cores() == expected


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5"])
def test_what_is_no_number_of_cores_is_refused(
    given: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cores.CORES, given)
    with pytest.raises(PipelineError, match=f"{cores.CORES} is '{given}': .*above 0"):
        cores.cores()


CODE = """
import os, sys
import studies, stages.plot
assert "torch" not in sys.modules, "it takes seconds"
import stages.train_variant
assert "distributed" not in sys.modules, "no Dask was asked for"
print(*sorted(os.sched_getaffinity(0)))
"""


def test_a_start_imports_what_it_needs_and_pytorch_leaves_it_all_its_cores() -> None:
    said = python("-c", CODE, OMP_PROC_BIND="true", OMP_PLACES="cores", GOMP_CPU_AFFINITY="0")
    assert said.split() == [str(core) for core in sorted(os.sched_getaffinity(0))]
