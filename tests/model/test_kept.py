"""Trainings are kept: epochs add up, a kill costs one of them, and nothing stale is taken."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stages.common.errors import PipelineError
from stages.common.settings import Training
from stages.data.faces import Faces
from stages.model import kept
from stages.model.training import Trainer
from tests.conftest import made_faces, model_settings

ROOT = Path(__file__).parents[2]
OUTPUTS = ("last_step.safetensors", "averaged.safetensors", "curve.csv")
MODELS: list[dict[str, Any]] = [
    {"norm": "shared", "variational": True},
    {"training": "stacked", "norm": "batch", "schedule": "cosine"},
    {"stacked_epochs": 1, "norm": "tied"},
]


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository without trainings, where dvc does not run."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs that are trained."""
    found: list[int] = []
    whole = Trainer.run_epoch

    def noted(self: Trainer) -> None:
        whole(self)
        found.append(self.epoch)

    monkeypatch.setattr(Trainer, "run_epoch", noted)
    return found


def training(faces: Faces, seed: int = 0, **changes: Any) -> Training:
    return Training(settings=model_settings(**changes), seed=seed, faces=faces.hash)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


def alone(wanted: Training, faces: Faces, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What this training gives in one go."""
    with monkeypatch.context() as patch:
        patch.setenv("DVC_ROOT", "in_one_go")
        return contents(kept.obtain(wanted, faces))


def test_a_training_is_done_once(faces: Faces, epochs: list[int]) -> None:
    first = kept.obtain(training(faces), faces)
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert {path.name for path in before} == {*OUTPUTS, "machine.json"}
    assert kept.obtain(training(faces), faces) == first
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert epochs == [1]
    assert first.is_relative_to(".dvc/trainings")


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"lr": 0.002}, {"implementation": "released"}, {"norm": "tied"}],
    ids=str,
)
def test_another_training_is_another(faces: Faces, changes: dict[str, Any]) -> None:
    places = {kept.finished(training(faces)), kept.finished(training(faces, **changes))}
    assert len({place.parent for place in places}) == 2


def test_other_faces_are_another_training_and_are_not_trained_on_as_these(faces: Faces) -> None:
    others = made_faces(54)
    assert kept.finished(training(faces)).parent != kept.finished(training(others)).parent
    with pytest.raises(PipelineError, match=r"faces changed .*`dvc repro` again"):
        kept.obtain(training(faces), others)
    assert not kept.folder().exists()


def test_more_epochs_go_on_to_the_same_bytes(
    faces: Faces, epochs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"norm": "shared", "variational": True}
    short = kept.obtain(training(faces, epochs=1, **changes), faces)
    longer = kept.obtain(training(faces, epochs=3, **changes), faces)
    assert epochs == [1, 2, 3]
    assert short.parent == longer.parent and short.exists()
    assert contents(longer) == alone(training(faces, epochs=3, **changes), faces, monkeypatch)
    epochs.clear()
    between = kept.obtain(training(faces, epochs=2, **changes), faces)
    assert epochs == [1, 2]  # the state behind them is of a later epoch
    assert len(contents(between)["curve.csv"].splitlines()) > 10
    epochs.clear()
    kept.obtain(training(faces, epochs=4, **changes), faces)
    assert epochs == [4]


@pytest.mark.parametrize("changes", [{"schedule": "cosine"}, {"stacked_epochs": 1}], ids=str)
def test_where_a_schedule_depends_on_their_number_more_epochs_begin_anew(
    faces: Faces, changes: dict[str, Any]
) -> None:
    places = [kept.finished(training(faces, epochs=n, **changes)).parent for n in (2, 3)]
    assert places[0] != places[1]


def edit(path: Path, tensors: bool = False, **metadata: Any) -> None:
    with safe_open(path, "pt") as file:
        found = file.metadata()
    values = load_file(path)
    if tensors:
        values["model.encoder.0.bias"].add_(1)
    save_file(values, path, found | metadata)


def other_processor(state: Path) -> None:
    edit(state, machine=json.dumps(kept.machine() | {"processor": "another"}), tensors=True)


def truncated(state: Path) -> None:
    state.write_bytes(state.read_bytes()[:-1000])


def no_state(state: Path) -> None:
    state.write_text("<!DOCTYPE html>", encoding="utf-8")


@pytest.mark.parametrize("damage", [other_processor, truncated, no_state])
def test_a_state_that_is_of_no_use_here_is_not_gone_on_from(
    damage: Callable[[Path], None], faces: Faces, epochs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = kept.obtain(training(faces, epochs=1), faces)
    damage(short.parent / "state.safetensors")
    epochs.clear()
    longer = kept.obtain(training(faces, epochs=2), faces)
    assert epochs == [1, 2]
    assert contents(longer) == alone(training(faces, epochs=2), faces, monkeypatch)
    epochs.clear()
    kept.obtain(training(faces, epochs=3), faces)  # what is there now is ours again
    assert epochs == [3]


def test_a_finished_training_of_another_processor_is_taken(
    faces: Faces, epochs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = kept.obtain(training(faces), faces)
    monkeypatch.setattr(kept, "machine", lambda: {"processor": "another"})
    assert kept.obtain(training(faces), faces) == found
    assert epochs == [1]


@pytest.mark.parametrize("fault", ["truncated", "missing", "no curve", "empty", "another's"])
def test_a_damaged_finished_training_is_done_again(
    faces: Faces, fault: str, epochs: list[int]
) -> None:
    found = kept.obtain(training(faces), faces)
    whole = contents(found)
    if fault == "empty":  # as a power failure leaves what had been renamed, but not written
        (found / "machine.json").write_bytes(b"")
    elif fault == "truncated":
        truncated(found / OUTPUTS[0])
    elif fault == "missing":
        (found / OUTPUTS[1]).unlink()
    elif fault == "no curve":
        (found / "curve.csv").unlink()
    else:
        shutil.copytree(kept.obtain(training(faces, seed=1), faces), found, dirs_exist_ok=True)
    assert not kept.is_whole(found, training(faces))
    assert contents(kept.obtain(training(faces), faces)) == whole


def test_a_diverged_training_is_kept_in_place_of_weights(faces: Faces, epochs: list[int]) -> None:
    wanted = training(faces, training="stacked", activation="relu", lr=1e20, epochs=2)
    found = kept.obtain(wanted, faces)
    assert {path.name for path in found.iterdir()} == {"diverged.json", "machine.json", "curve.csv"}
    told = json.loads((found / "diverged.json").read_text(encoding="utf-8"))
    assert set(told) == {"epoch", "loss", "value", "last_finite"}
    assert (told["epoch"], told["loss"], epochs) == (1, "reconstruction", [])
    assert told["value"] in ("nan", "inf") and 0 < told["last_finite"] < 1
    assert kept.is_whole(found, wanted)


def test_another_line_in_the_losses_is_another_training(
    faces: Faces, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept.finished(training(faces))
    copy = repository / "stages"
    shutil.copytree(ROOT / "stages", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(kept, "STAGES", copy)
    assert kept.finished(training(faces)) == before
    for changed, same in (("report/readme.py", True), ("model/losses.py", False)):
        with open(copy / changed, "a", encoding="utf-8") as file:
            file.write("# another line\n")
        assert (kept.finished(training(faces)) == before) is same


def test_code_that_was_edited_while_a_process_runs_names_none_of_its_trainings(
    faces: Faces, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = repository / "stages"
    shutil.copytree(ROOT / "stages", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(kept, "STAGES", copy)
    kept.obtain(training(faces), faces)
    with open(copy / "model/losses.py", "a", encoding="utf-8") as file:
        file.write("# another line\n")
    with pytest.raises(PipelineError, match="was edited after this process had begun"):
        kept.obtain(training(faces), faces)
    assert len([*kept.folder().iterdir()]) == 1


# A process of its own forks one for each kill: they share the time that the imports take.
KILLED = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
from stages.common import files
from stages.common.settings import Training
from stages.model import kept
from stages.model.training import Trainer
from tests.conftest import made_faces, model_settings

faces = made_faces(48)
step, replace = Trainer._step, os.replace
count = 0

def die_at(moment):
    global count
    count += 1
    if count > moment:
        os.kill(os.getpid(), signal.SIGKILL)

def in_child(kind, moment, wanted):
    child = os.fork()
    if not child:
        if kind == "step":
            Trainer._step = lambda self: (step(self), die_at(moment))
        elif kind == "write":
            os.replace = lambda *paths: (die_at(moment), replace(*paths))
        kept.obtain(wanted, faces)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

for number, (changes, kind, moment) in enumerate(json.loads(sys.argv[1])):
    os.environ["DVC_ROOT"] = f"run{number}"
    settings = model_settings(epochs=3, **changes)
    wanted = Training(settings=settings, seed=0, faces=faces.hash)
    if kind:
        ends = [in_child(kind, moment, wanted), in_child(None, 0, wanted)]
    else:  # here, so that the children find all code compiled
        ends = [kept.obtain(wanted, faces).exists()]
    print(json.dumps([ends, str(kept.finished(wanted))]), flush=True)
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bytes(repository: Path) -> None:
    """kill -9 in each epoch, at its first and last step, and before each file is put in place."""
    whole = [(changes, None, 0) for changes in MODELS]
    # Two steps an epoch; identity.json, a state after each epoch, then the outputs are written.
    moments = [("step", k) for k in range(6)] + [("write", k) for k in range(5)]
    kills = [(MODELS[0], *moment) for moment in moments]
    kills += [(changes, "step", 3) for changes in MODELS[1:]]
    command = [sys.executable, "-c", KILLED, json.dumps([*whole, *kills])]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [contents(Path(folder)) for _, folder in results[: len(MODELS)]]
    for kill, (ends, folder) in zip(kills, results[len(MODELS) :], strict=True):
        assert ends == [-9, 0], kill
        assert contents(Path(folder)) == expected[MODELS.index(kill[0])], kill
        left = [p.name for p in Path(folder).parent.iterdir() if p.name.startswith(".partial")]
        assert not left, kill
