"""Trainings are kept: epochs add up, nothing damaged or stale is taken, models have names."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from stages import publish
from stages.common.errors import PipelineError
from stages.common.settings import ModelSettings, Training
from stages.data.faces import Faces
from stages.model import checkpoint, side_by_side, store
from stages.model.network import Autoencoder, state
from stages.model.side_by_side import obtain
from stages.model.training import Trainer
from tests.conftest import ROOT, flip, made_faces, made_model, model_settings, small, tree
from tests.model.test_checkpoint import Damage, changed


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository without trainings, where dvc does not run."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/publish.yaml").write_text("[stacked, best]", encoding="utf-8")
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


@pytest.fixture
def copied(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of stages/, which stands for the code that runs."""
    ignored = shutil.ignore_patterns("__pycache__")
    copy = Path(shutil.copytree(ROOT / "stages", repository / "stages", ignore=ignored))
    monkeypatch.setattr(store, "ROOT", repository)
    return copy


def add_a_line(path: Path) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write("# another line\n")


def training(faces: Faces, seed: int = 0, **changes: Any) -> Training:
    return Training(settings=small(**changes), seed=seed, faces=faces.hash)


def alone(wanted: Training, faces: Faces, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What this training gives in one go."""
    with monkeypatch.context() as patch:
        patch.setenv("DVC_ROOT", "in_one_go")
        return tree(obtain(wanted, faces))


def test_a_training_is_done_once_also_on_another_processor(
    faces: Faces, epochs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = obtain(training(faces), faces)
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    monkeypatch.setattr(store, "machine", lambda: {"processor": "another"})
    assert obtain(training(faces), faces) == first
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert epochs == [1]
    assert first.is_relative_to(".dvc/trainings")


def test_each_training_has_a_folder_of_its_own(faces: Faces) -> None:
    """Where a schedule counts the epochs, more of them begin anew."""
    others: list[dict[str, Any]] = [
        *({}, {"seed": 1}, {"lr": 0.002}, {"implementation": "released"}, {"norm": "tied"}),
        *({"schedule": "cosine", "epochs": n} for n in (2, 3)),
        *({"stacked_epochs": 1, "epochs": n} for n in (2, 3)),
    ]
    places = [store.finished(training(faces, **changes)).parent for changes in others]
    places.append(store.finished(training(made_faces(54, 32))).parent)
    assert len({*places}) == len(places)
    assert store.finished(training(faces, epochs=2)).parent == places[0]


class More(ModelSettings):
    """Settings with one that most models leave out."""

    extra: float | None = None


def test_an_identity_stays_the_same_and_a_setting_left_out_is_not_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "code", lambda: "code")
    for schedule, name in (("constant", "118426a8d619d0ae"), ("cosine", "bf452da029c980df")):
        settings = model_settings(schedule=schedule)
        for kind in (ModelSettings, More):
            values = kind.model_validate(settings.model_dump())
            found = store.finished(Training(settings=values, seed=3, faces="faces"))
            assert found.parent.name[:16] == name
    extra = More.model_validate(settings.model_dump() | {"extra": 1.0})
    assert store.finished(Training(settings=extra, seed=3, faces="faces")) != found


def test_more_epochs_go_on_to_the_same_bytes(
    faces: Faces, epochs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"norm": "shared", "variational": True}
    short = obtain(training(faces, epochs=1, **changes), faces)
    wanted = training(faces, epochs=3, **changes)
    longer = obtain(wanted, faces)
    assert epochs == [1, 2, 3]
    assert short.parent == longer.parent and short.exists()
    assert tree(longer) == alone(wanted, faces, monkeypatch)
    epochs.clear()
    between = obtain(training(faces, epochs=2, **changes), faces)
    assert epochs == [1, 2]  # the state behind them is of a later epoch
    assert len(store.read_curve(between)) > 10
    epochs.clear()
    obtain(training(faces, epochs=4, **changes), faces)
    assert epochs == [4]


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "shared", "variational": True},
        {"training": "stacked", "norm": "batch", "schedule": "cosine"},
        {"stacked_epochs": 1, "norm": "tied"},
    ],
    ids=str,
)
def test_an_interrupted_training_goes_on_to_the_same_bytes(
    faces: Faces, changes: dict[str, Any], epochs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second of three epochs, after its first step."""
    wanted = training(faces, epochs=3, **changes)
    step = Trainer._step

    def interrupted(self: Trainer) -> None:
        step(self)
        if self.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_step", interrupted)
        obtain(wanted, faces)
    found = tree(obtain(wanted, faces))
    assert epochs == [1, 2, 3]
    assert found == alone(wanted, faces, monkeypatch)


def edited(change: Callable[[dict[str, torch.Tensor], dict[str, Any]], object]) -> Damage:
    """Another state, with the checksum of its content."""

    def sealed(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        values = json.loads(metadata["state"])
        change(tensors, values)
        metadata["state"] = json.dumps(values)
        metadata["checksum"] = store._state_checksum(metadata["state"], tensors)

    return changed(sealed)


KEY, ADAM_S = "model.encoder.0.bias", "adam.0.exp_avg"
STATES: dict[str, Damage] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "a web page": lambda path: path.write_text("<!DOCTYPE html>", encoding="utf-8"),
    "a sign": flip,
    "no checksum": changed(lambda _, m: m.pop("checksum")),
    "other processor": edited(lambda _, v: v["of"]["machine"].update(processor="x")),
    "other seed": edited(lambda _, v: v["of"].update(seed=1)),
    "other decay": edited(lambda _, v: v.update(averaging=0.5)),
    "no shuffle": edited(lambda _, v: v.pop("shuffle")),
    "no random": edited(lambda t, _: t.pop("random")),
    "no tensor": edited(lambda t, _: t.pop(KEY)),
    "one too many": edited(lambda t, _: t.update(more=torch.zeros(1))),
    "other shape": edited(lambda t, _: t.update({KEY: t[KEY][:1].clone()})),
    "Adam's shape": edited(lambda t, _: t.update({ADAM_S: t[ADAM_S][:1].clone()})),
    "not a number": edited(lambda t, _: t[KEY].fill_(torch.nan)),
}


@pytest.fixture(scope="module")
def short(faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a training of one epoch."""
    root = tmp_path_factory.mktemp("short")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(root))
        obtain(training(faces), faces)
    return root


@pytest.mark.parametrize("fault", STATES)
def test_a_state_that_does_not_fit_is_not_gone_on_from(
    fault: str, short: Path, repository: Path, faces: Faces, epochs: list[int]
) -> None:
    shutil.copytree(short, repository, dirs_exist_ok=True)
    wanted = training(faces, epochs=2)
    home = store.finished(wanted).parent
    STATES[fault](home / "state.safetensors")
    obtain(wanted, faces)
    assert epochs == [1, 2]
    epochs.clear()
    obtain(training(faces, epochs=3), faces)  # what is there now is ours again
    assert epochs == [3]


DAMAGES: dict[str, Damage] = {
    "a bit": lambda folder: flip(folder / "averaged.safetensors"),
    "a number": lambda folder: (folder / "curve.csv").write_text("epoch\n1\n", encoding="utf-8"),
    "missing": lambda folder: (folder / "last_step.safetensors").unlink(),
    # As a power failure leaves what had been renamed, but not written.
    "empty": lambda folder: (folder / "machine.json").write_bytes(b""),
    "no checksum": lambda folder: folder.with_name("epochs1.sha256").unlink(),
    "another's": lambda folder: shutil.copytree(
        obtain(training(made_faces(48, 32), seed=1), made_faces(48, 32)).parent,
        folder.parent,
        dirs_exist_ok=True,
    ),
}


@pytest.mark.parametrize("fault", DAMAGES)
def test_a_damaged_finished_training_is_done_again(
    fault: str, short: Path, repository: Path, faces: Faces
) -> None:
    shutil.copytree(short, repository, dirs_exist_ok=True)
    found = store.finished(training(faces))
    whole = tree(found)
    DAMAGES[fault](found)
    assert not store.is_whole(found, training(faces))
    assert tree(obtain(training(faces), faces)) == whole


def test_a_diverged_training_is_kept_in_place_of_weights(faces: Faces, epochs: list[int]) -> None:
    wanted = training(faces, training="stacked", activation="relu", lr=1e20, epochs=2)
    found = obtain(wanted, faces)
    assert {path.name for path in found.iterdir()} == {"diverged.txt", "machine.json", "curve.csv"}
    how = store.divergence(found)
    assert how.startswith(("reconstruction became nan in epoch 1", "reconstruction became inf"))
    assert epochs == [] and store.is_whole(found, wanted)


def test_weights_that_are_no_numbers_after_the_last_step_are_a_divergence(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer.run_epoch

    def overflowing(self: Trainer) -> None:
        whole(self)
        state(self.model)["encoder.0.bias"].fill_(torch.nan)

    monkeypatch.setattr(Trainer, "run_epoch", overflowing)
    found = obtain(training(faces), faces)
    assert store.divergence(found) == "a weight became no number in epoch 1"
    assert not [*found.glob("*.safetensors")]


def test_what_a_stage_cannot_read_of_a_training_is_told(faces: Faces, tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text("epoch,split,loss,value\n1,test,error,much\n", "utf-8")
    (tmp_path / "machine.json").write_text("[" * 100_000, encoding="utf-8")
    for read, name in ((store.read_curve, "curve.csv"), (store.read_machine, "machine.json")):
        for how in ("is damaged", "does not exist"):
            with pytest.raises(PipelineError, match=f"{name} {how}; delete .* and run `dvc repro`"):
                read(tmp_path)
            (tmp_path / name).unlink(missing_ok=True)


@pytest.mark.parametrize("edit", [add_a_line, Path.unlink])
def test_code_that_was_edited_while_a_process_runs_names_none_of_its_trainings(
    faces: Faces, copied: Path, edit: Callable[[Path], None]
) -> None:
    obtain(training(faces), faces)
    edit(copied / "model/losses.py")
    with pytest.raises(PipelineError, match=r"(code|losses.py).*; run it again"):
        obtain(training(faces), faces)
    assert len([*store.kept_trainings().iterdir()]) == 1


def test_a_worker_that_loads_other_code_than_the_process_that_started_it_trains_nothing(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "LOADED", "of another branch")
    with pytest.raises(PipelineError, match=r"code .* was edited .*; run it again"):
        side_by_side.obtain_all([training(faces), training(faces, seed=1)])
    assert not store.kept_trainings().exists()


def test_trainings_of_former_code_get_the_name_of_the_present_code(
    faces: Faces, copied: Path, epochs: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(obtain(training(faces), faces))
    old = store.code()
    add_a_line(copied / "report/tables.py")  # decides no weights
    assert store.code() == old
    (store.kept_trainings() / "damaged").mkdir()
    (store.kept_trainings() / "damaged/identity.json").write_text("{", encoding="utf-8")
    add_a_line(copied / "model/losses.py")
    assert store.accept_code(old) == 1
    found = store.finished(training(faces))
    assert store.is_whole(found, training(faces)) and tree(found) == before
    identity = json.loads((found.parent / "identity.json").read_text(encoding="utf-8"))
    assert identity == store.identity(training(faces))
    with pytest.raises(SystemExit):
        store.main(old)
    assert f"no trainings of code '{old}', but of {store.code()}" in capsys.readouterr().err
    assert epochs == [1]


def test_who_holds_a_training_is_told_to_those_who_wait(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, told = Event(), Event()

    def hold() -> None:
        with store.locked(training(faces)):
            held.set()
            told.wait()

    monkeypatch.setattr(store, "PATIENCE", 0.1)
    said = Mock(side_effect=lambda *_, **__: told.set())
    monkeypatch.setattr(store, "print", said, raising=False)
    Thread(target=hold, daemon=True).start()
    held.wait()
    with store.locked(training(faces)):
        said.assert_called_once()
    assert said.call_args.args[0].startswith(f"waiting for process {os.getpid()} on ")


def keep(folder: Path, seed: int = 0, **changes: object) -> Autoencoder:
    """A model with fresh weights, saved as a training leaves it below the present folder."""
    model = made_model(seed, **changes).eval()
    save(model, folder / f"described/seed{seed}/averaged.safetensors", seed)
    return model


def save(model: Autoencoder, path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    training = Training(settings=model.settings, seed=seed, faces="faces")
    checkpoint.save(state(model), path, training, "averaged")


def test_a_published_copy_is_found_where_nothing_is_trained(images: torch.Tensor) -> None:
    model = keep(Path("models/best"), norm="shared", variational=True)
    publish.main()
    copy = Path("reports/models/best.safetensors")
    original = Path("models/best/described/seed0/averaged.safetensors")
    assert copy.stat().st_size < 0.51 * original.stat().st_size
    assert store.find("best") == original
    original.unlink()
    assert store.find("best") == copy and store.copies() == ["best"]
    copied, training = checkpoint.load(copy)
    assert training.settings == model.settings
    torch.testing.assert_close(state(copied), state(model), rtol=2**-11, atol=1e-7)
    with torch.inference_mode():
        torch.testing.assert_close(copied(images[:3]), model(images[:3]), rtol=0, atol=2e-3)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_weights_may_be_read_by_whom_the_umask_says(umask: int) -> None:
    before = os.umask(umask)
    try:
        keep(Path("models/best"))
        publish.main()
    finally:
        os.umask(before)
    for path in (store.copy_of("best"), store.seeds("best")[0]):
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_copy_is_of_the_first_seed_and_goes_with_its_variant_not_its_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for seed in (10, 9):
        keep(Path("models/best"), seed)
    publish.main()
    told = capsys.readouterr().out
    assert "stacked.safetensors: not there; `dvc repro train-var" in told
    assert "seed9" in told and "seed10" not in told
    copy = store.copy_of("best")
    before = copy.read_bytes()
    shutil.rmtree("models")
    publish.main()
    assert copy.read_bytes() == before
    Path("configs/publish.yaml").write_text("[]", encoding="utf-8")
    publish.main()
    assert not copy.exists()


def test_weights_beyond_half_precision_are_not_published(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = keep(Path("models/best"))
    state(model)["encoder.0.bias"][0] = 1e5
    save(model, store.find("best"))
    with pytest.raises(SystemExit):
        publish.main()
    assert "encoder.0.bias has values that half precision cannot hold" in capsys.readouterr().err
    assert not store.copy_of("best").exists()


def test_a_model_that_makes_no_pictures_is_told() -> None:
    model = keep(Path("models/stacked"))
    with torch.no_grad():
        for value in state(model).values():
            value *= 1e30
    save(model, Path("large.safetensors"))
    with pytest.raises(PipelineError, match=r"large.safetensors is damaged: .* are no numbers"):
        store.load(["stacked", "large.safetensors"])
