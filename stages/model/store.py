"""The folders of trainings: their names, their files, and how these are read and written.

The hash of what decides a training names its folder: settings, seed, faces, the code that decides
weights, and whether the compiled kernels are on. The folders lie in .dvc/trainings, also for `dvc
exp run --temp` and `--queue`. They can be copied to another machine:

    identity.json       what names the folder
    epochs<N>/          finished after N epochs: last_step.safetensors, averaged.safetensors,
                        curve.csv and machine.json; or diverged.txt in place of the weights
    epochs<N>.sha256    the checksum of that folder and of the settings, seed and faces
    state.safetensors   all that the next epoch depends on
    lock, holder        of the process that trains it

models/<variant>/<implementation>/seed<k>/ is a copy of epochs<N>/. reports/models/ has a few models
in half precision, for git.

`python -m stages.model.store OLD_CODE` gives the trainings of former code the name of the present
code. OLD_CODE is `code` in their identity.json.
"""

import csv
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from safetensors import safe_open
from torch import Tensor

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.files import atomic, atomic_folder, number, write_text
from stages.common.settings import (
    ModelSettings,
    Training,
    Variant,
    Weights,
    kept_trainings,
    read_variant,
)
from stages.data import faces
from stages.kernels import operations
from stages.model import checkpoint
from stages.model.network import Autoencoder, device

ROOT = Path(__file__).parents[2]
MODELS, COPIES = Path("models"), Path("reports/models")
LIBRARIES = ("torch", "numpy", "numba", "llvmlite")
POINT = ("epoch", "split", "loss", "value")  # the columns of curve.csv
PATIENCE = 10  # seconds to wait for another process before saying so

Point = tuple[int, str, str, float]
# What `Trainer.state` gives: tensors, and what JSON can hold.
State = tuple[dict[str, Tensor], dict[str, Any]]


def identity(training: Training) -> dict[str, Any]:
    """What decides the weights of a training on any machine, as JSON holds it. Without the number
    of epochs where a longer training `goes_on`."""
    settings = training.settings.model_dump(exclude_none=True)
    if goes_on(training.settings):
        del settings["epochs"]
    return {
        "settings": settings,
        "seed": training.seed,
        "faces": training.faces,
        "code": code(),
        "kernels": operations.kernels_on(),
    }


def goes_on(settings: ModelSettings) -> bool:
    """Whether a longer training begins as this: no setting depends on the number of epochs."""
    return settings.schedule == "constant" and not settings.stacked_epochs


@cache
def _code_paths() -> list[str]:
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    dependencies = pipeline["stages"]["train-variant"]["do"]["deps"]
    return [path for path in dependencies if path.startswith("stages/")]


def code() -> str:
    """The hash of the code that decides weights: what train-variant in dvc.yaml depends on. Raises
    PipelineError where it cannot be read."""
    try:
        paths = [ROOT / path for path in _code_paths()]
        files = sorted(file for p in paths for file in (p.rglob("*.py") if p.is_dir() else [p]))
        root = ROOT / "stages"
        return _checksum("", ((p.relative_to(root).as_posix(), p.read_bytes()) for p in files))
    except OSError as error:
        raise PipelineError(
            f"{error.filename}, which decides weights, cannot be read; run it again once the code "
            "is whole"
        ) from None


def _checksum(text: str, contents: Iterable[tuple[str, bytes]]) -> str:
    checksum = hashlib.sha256(text.encode())
    for name, content in contents:
        checksum.update(f"{name}\n".encode() + content)
    return checksum.hexdigest()


def _home(identity: Mapping[str, Any]) -> Path:
    return kept_trainings() / _checksum(json.dumps(identity, sort_keys=True), ())[:32]


def finished(training: Training) -> Path:
    """The folder of this training's outputs, whether it exists or not."""
    return _home(identity(training)) / f"epochs{training.settings.epochs}"


def machine() -> dict[str, str]:
    """The processor or GPU and the libraries that compute: what may change a weight's last bits."""
    gpu = torch.cuda.get_device_name() if device().type == "cuda" else ""
    vectors = torch.backends.cpu.get_cpu_capability()
    libraries = {library: version(library) for library in LIBRARIES}
    return {"processor": gpu or _processor(), "vectors": vectors} | libraries


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@contextmanager
def locked(training: Training) -> Iterator[Path]:
    """Yield the folder of a training's outputs, while no other process writes them."""
    named = identity(training)
    home = _home(named)
    home.mkdir(parents=True, exist_ok=True)
    with _held(home):
        _write_json(home / "identity.json", named)
        yield home / f"epochs{training.settings.epochs}"


@contextmanager
def _held(home: Path) -> Iterator[None]:
    lock, holder = FileLock(home / "lock"), home / "holder"
    try:
        held = lock.acquire(timeout=PATIENCE)
    except Timeout:
        who = holder.read_text(encoding="utf-8") if holder.exists() else "unknown"
        line = f"waiting for process {who}, which trains {home}; end it if it is stopped"
        print(line, file=sys.stderr, flush=True)
        held = lock.acquire()
    with held:
        holder.write_text(f"{os.getpid()} on {platform.node()}", encoding="utf-8")
        yield


def write_state(folder: Path, training: Training, state: State) -> None:
    """Replace the state that the training of outputs `folder` goes on from."""
    tensors, values = state
    text = json.dumps(values | {"of": _of(training)})
    with atomic(folder.with_name("state.safetensors")) as to:
        checkpoint.write(tensors, to, {"state": text, "checksum": _state_checksum(text, tensors)})


def read_state(
    folder: Path, training: Training, fresh: State, parameters: Sequence[Tensor]
) -> State | None:
    """The state that a training goes on from. None where there is none, or where it is damaged, not
    finite, or of another training, decay or kind of machine.

    fresh: the trainer's state before its first step. parameters: those that its optimizer trains.
    """
    path = folder.with_name("state.safetensors")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        values = json.loads(metadata["state"])
        fits = metadata["checksum"] == _state_checksum(metadata["state"], tensors)
        fits &= values.pop("of") == _of(training)
    except checkpoint.UNREADABLE:
        return None
    adam: dict[str, Tensor] = {}
    for index, like in enumerate(parameters):
        adam |= {f"adam.{index}.step": torch.zeros(()), f"adam.{index}.exp_avg": like}
        adam[f"adam.{index}.exp_avg_sq"] = like
    needed, shapes = _shapes(fresh[0]), _shapes(tensors)
    fits &= needed.items() <= shapes.items() <= (needed | _shapes(adam)).items()
    fits &= all(value.isfinite().all() for value in tensors.values())
    fits &= values.keys() >= fresh[1].keys() and values["averaging"] == fresh[1]["averaging"]
    return (tensors, values) if fits else None


def _of(training: Training) -> dict[str, Any]:
    shown = training.model_dump(exclude={"settings": {"epochs"}}, exclude_none=True)
    return shown | {"machine": machine()}


def _state_checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    names = sorted(tensors)
    return _checksum(text, ((name, tensors[name].numpy(force=True).tobytes()) for name in names))


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (value.dtype, value.shape) for name, value in tensors.items()}


def write(
    folder: Path,
    training: Training,
    curve: Iterable[Point],
    models: Mapping[Weights, dict[str, Tensor]],
    diverged: str,
) -> None:
    """Keep the outputs of a finished training: its models, or the way in which it diverged."""
    with unfinished(folder, training) as to:
        rows = [POINT, *((*place, number(value)) for *place, value in curve)]
        write_text(to / "curve.csv", "".join(f"{','.join(map(str, row))}\n" for row in rows))
        _write_json(to / "machine.json", machine())
        if diverged:
            write_text(to / "diverged.txt", f"{diverged}\n")
            return
        for weights, tensors in models.items():
            checkpoint.save(tensors, to / f"{weights}.safetensors", training, weights)


@contextmanager
def unfinished(folder: Path, training: Training) -> Iterator[Path]:
    """Yield an empty folder for all outputs of a training; at the end it replaces `folder`."""
    with atomic_folder(folder) as to:
        yield to
        write_text(_seal(folder), _folder_checksum(to, training))


def is_whole(folder: Path, training: Training) -> bool:
    """Whether a folder has all outputs of this training, as they were written."""
    try:
        return _seal(folder).read_text(encoding="utf-8") == _folder_checksum(folder, training)
    except (OSError, ValueError):
        return False


def _seal(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.sha256")


def _folder_checksum(folder: Path, training: Training) -> str:
    files = ((path.name, path.read_bytes()) for path in sorted(folder.iterdir()))
    return _checksum(training.model_dump_json(exclude_none=True), files)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=2) + "\n")


def divergence(folder: Path) -> str:
    """How a training diverged; empty where it has weights."""
    path = folder / "diverged.txt"
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""


def read_curve(folder: Path) -> list[Point]:
    """The points of a training curve. Raises PipelineError where it is missing or damaged."""
    with _readable(folder / "curve.csv") as path, open(path, encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
        return [(int(r["epoch"]), r["split"], r["loss"], float(r["value"])) for r in rows]


def read_machine(folder: Path) -> dict[str, str]:
    """The `machine` of a training. Raises PipelineError where it is missing or damaged."""
    with _readable(folder / "machine.json") as path:
        parts: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return {"processor": parts["processor"], "vectors": parts["vectors"]} | parts


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    try:
        yield path
    except (OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        how = "does not exist" if isinstance(error, FileNotFoundError) else "is damaged"
        raise PipelineError(f"{path} {how}; delete {path.parent} and run `dvc repro`") from None


def trainings(variant: Variant, faces_hash: str) -> dict[Path, Training]:
    """The trainings of a variant, by the folders of their outputs below models/<variant>/."""
    return {
        Path(how, f"seed{seed}"): Training(settings=settings, seed=seed, faces=faces_hash)
        for how, settings in variant.models().items()
        for seed in variant.seeds_of(how)
    }


def trained(name: str, faces_hash: str) -> Iterator[tuple[Path, Training]]:
    """The folders and trainings of a variant as described, without those that diverged."""
    for place, training in trainings(read_variant(name), faces_hash).items():
        described = training.settings.implementation == "described"
        if described and not divergence(MODELS / name / place):
            yield MODELS / name / place, training


def put_in_place(name: str, planned: dict[Path, Training], outputs: list[Path]) -> None:
    """Make models/<variant> of the outputs of its trainings, in their order. Raises PipelineError,
    and changes nothing, where settings, faces or code are no longer those of the trainings."""
    with atomic_folder(MODELS / name) as to:
        for place, output in zip(planned, outputs, strict=True):
            (to / place).mkdir(parents=True)
            for path in output.iterdir():  # copytree would hide the error of a full disk in a list
                shutil.copy(path, to / place)
        now = trainings(read_variant(name), faces.load().hash)
        if now != planned or [*map(finished, now.values())] != outputs:
            raise PipelineError(
                f"the settings of {name}, the faces or the code changed while it was trained; run "
                "`dvc repro` again"
            )


def seeds(variant: str) -> list[Path]:
    """The files of averaged weights of a variant as described, the lowest seed first."""
    paths = Path(MODELS, variant, "described").glob("seed*/averaged.safetensors")
    return sorted(paths, key=lambda path: (len(path.parent.name), path.parent.name))


def copy_of(variant: str) -> Path:
    """Where `publish` keeps a variant's model in half precision."""
    return COPIES / f"{variant}.safetensors"


def copies() -> list[str]:
    """The variants that `publish` keeps."""
    return sorted(path.stem for path in COPIES.glob("*.safetensors"))


def find(name: str) -> Path:
    """The file of a model: `name` itself if it ends in .safetensors, else of a variant the first
    seed in models/, or else the copy. Raises PipelineError where there is neither.
    """
    if name.endswith(".safetensors"):
        return Path(name)
    for path in (*seeds(name), copy_of(name)):
        if path.exists():
            return path
    here = sorted({*copies(), *(path.name for path in MODELS.glob("*") if seeds(path.name))})
    raise PipelineError(
        f"there is no trained model {name!r}; here are {', '.join(here) or 'none'}; "
        f"a variant of params.yaml is trained by `dvc repro train-variant@{name}`"
    )


@torch.inference_mode()
def load(names: Sequence[str]) -> dict[str, Autoencoder]:
    """A model for each name, in evaluation mode. Raises PipelineError as `find` and
    `checkpoint.load` do, for no names, and for a model whose reconstruction of grey is no picture.
    """
    if not names:
        raise PipelineError(f"{COPIES} has no models; name others with --variants")
    models = {name: checkpoint.load(find(name))[0] for name in names}
    for name, model in models.items():
        grey = torch.full((1, 3, model.size, model.size), 0.5)
        if not model(grey).isfinite().all():
            raise checkpoint.damaged(find(name), "its reconstructions are no numbers")
    return models


def accept_code(old: str) -> int:
    """Rename the trainings of code `old` as if the present code had made them; returns how many.

    Keeps the name of those of the present code, too. Raises PipelineError where `old` made none.
    """
    kept: dict[Path, dict[str, Any]] = {}
    for path in kept_trainings().glob("*/identity.json"):
        with suppress(ValueError):
            identity = json.loads(path.read_text(encoding="utf-8"))
            if path.parent == _home(identity):
                kept[path.parent] = identity
    codes = {identity["code"] for identity in kept.values()}
    if old not in codes:
        others = ", ".join(sorted(codes)) or "none"
        raise PipelineError(f"{kept_trainings()} has no trainings of code {old!r}, but of {others}")
    renamed = 0
    for home, identity in kept.items():
        now = identity | {"code": code()}
        if identity["code"] == old and not _home(now).exists():
            with _held(home):
                home.rename(_home(now))
                _write_json(_home(now) / "identity.json", now)
            renamed += 1
    return renamed


@entry_point
def main(old_code: str) -> None:
    print(f"{accept_code(old_code)} trainings now have the name of the present code")


if __name__ == "__main__":
    main(*sys.argv[1:])
