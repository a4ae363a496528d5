"""Trainings through a real Dask scheduler: the same bytes as alone, also where a worker dies."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from stages.common.errors import PipelineError
from stages.common.settings import Training
from stages.data.faces import Faces
from stages.model import side_by_side
from tests.conftest import ROOT, tree
from tests.model.test_store import training

DASK = str(Path(sys.executable).with_name("dask"))
KILLED = """
import os, signal
from stages.model.training import Trainer

def run_epoch(self, whole=Trainer.run_epoch):
    whole(self) if self.epoch < 2 else os.kill(os.getpid(), signal.SIGKILL)

Trainer.run_epoch = run_epoch
"""


@contextmanager
def started(*words: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([DASK, *words], cwd=folder, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write(faces: Faces, folder: Path) -> None:
    folder.mkdir(parents=True)
    np.save(folder / "faces.npy", faces.images)
    columns = zip(faces.paths, faces.people, faces.splits, strict=True)
    lines = ["path,person,split", *map(",".join, columns), ""]
    (folder / "faces.csv").write_text("\n".join(lines), encoding="utf-8")


def trainings(faces: Faces) -> list[Training]:
    return [training(faces, seed, epochs=3) for seed in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("second_waits", [False, True], ids=["both have the faces", "one has them"])
def test_a_worker_that_is_killed_costs_its_trainings_alone(
    faces: Faces,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    second_waits: bool,
) -> None:
    Client = pytest.importorskip("distributed").Client
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "alone"))
    alone = [tree(side_by_side.obtain(each, faces)) for each in trainings(faces)]
    monkeypatch.delenv("DVC_ROOT")
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    write(faces, tmp_path / "here/data")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    (tmp_path / "killed.py").write_text(KILLED, encoding="utf-8")
    worker = ("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
    dying = (*worker, "--preload", str(tmp_path / "killed.py"))
    with ExitStack() as stack:
        scheduler = ("scheduler", "--port", f"{port}", "--no-dashboard")
        stack.enter_context(started(*scheduler, folder=tmp_path / "scheduler"))

        def start_second() -> None:
            if second_waits:
                first.wait()
            stack.enter_context(started(*worker, folder=tmp_path / "second"))

        starting = Thread(target=start_second)
        stack.callback(starting.join)  # after `first` has ended, and before the stack goes on
        first = stack.enter_context(started(*dying, folder=tmp_path / "first"))
        starting.start()
        with Client(address, timeout=90) as client:
            client.wait_for_workers(1 if second_waits else 2, timeout=90)
        found = side_by_side.obtain_all(trainings(faces))
        assert first.wait(timeout=30) == -signal.SIGKILL
    assert len([*tmp_path.glob("first/.dvc/trainings/*/state.safetensors")]) == 1
    assert not [*tmp_path.glob("first/.dvc/trainings/*/epochs*")]
    assert [tree(folder) for folder in found] == alone
    assert capfd.readouterr().out.count("held-out error") == 3


def test_no_scheduler_is_told(monkeypatch: pytest.MonkeyPatch, faces: Faces) -> None:
    pytest.importorskip("distributed")
    from stages.model import on_dask

    monkeypatch.setattr(on_dask, "PATIENCE", 1)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", f"tcp://127.0.0.1:{free_port()}")
    with pytest.raises(PipelineError, match="no Dask scheduler with a worker answers at tcp"):
        side_by_side.obtain_all(trainings(faces))
