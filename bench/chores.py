"""Everything around training, timed: `dvc repro`, and the stages in a scratch folder."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.watch import Watch
from stages.common.errors import PipelineError
from stages.common.yaml_files import to_yaml

LFW = "lfw-deepfunneled"
MEMORY_LIMIT_MB = 3000
BIN = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@dataclass(frozen=True)
class Chore:
    """How long a command took, run by run, and its peak memory; or in `problem` why not.

    limit_s None: no limit.
    """

    name: str
    limit_s: float | None
    seconds: tuple[float, ...] = ()
    peak_mb: float = 0.0
    problem: str = ""


def timed(command: list[str], folder: Path, **environment: str) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a command. Raises PipelineError with its last line."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with Watch([process.pid]) as watch:
        lines = process.communicate()[0].strip().splitlines()
    if process.returncode:
        last = lines[-1] if lines else process.returncode
        raise PipelineError(f"{' '.join(command[1:])}: {last}")
    return time.perf_counter() - started, watch.peak_mb


def stage(folder: Path, *words: str, **environment: str) -> tuple[float, float]:
    return timed([sys.executable, "-m", *words], folder, **environment)


def prepare_faces(scratch: Path, smoke: bool) -> tuple[str, list[Chore]]:
    """The dataset's name and what `download` and `preprocess` took to put it into scratch/data.

    LFW from LFW_ARCHIVE or from the pipeline's own data/, else, or where `smoke`, drawn faces.
    """
    (scratch / "stages").symlink_to(Path("stages").absolute())
    for name in ("params.yaml", "dvc.yaml"):  # the second names the code that decides weights
        shutil.copy(name, scratch)
    archive = Path(os.environ.get("LFW_ARCHIVE") or f"data/{LFW}.tar").absolute()
    dataset = LFW if archive.exists() and not smoke else "synthetic"
    settings = {
        "download": {"dataset": dataset, "count": 160 if smoke else 2000},
        "train": {"epochs": 1, "seeds": 1 if smoke else 3, "released_seeds": int(not smoke)},
        "variants": ["candidate", "recursive"],
    }
    (scratch / "settings.yaml").write_text(to_yaml(settings), encoding="utf-8")
    stage(scratch, "stages.configure", "settings.yaml")
    download = stage(scratch, "stages.download", LFW_ARCHIVE=str(archive))
    preprocess = stage(scratch, "stages.preprocess")
    together = download[0] + preprocess[0], max(download[1], preprocess[1])
    taken = (
        ("download, from a local archive" if dataset == LFW else "download", None, download),
        ("preprocess", None, preprocess),
        ("download and preprocess together", 40, together),
    )
    return dataset, [Chore(name, limit_s, (took,), peak) for name, limit_s, (took, peak) in taken]


def run_chores(scratch: Path, smoke: bool) -> list[Chore]:
    """The rest, once where `smoke`; `prepare_faces` has been called."""
    runs = 1 if smoke else 3
    configure = partial(stage, scratch, "stages.configure")
    train = partial(stage, scratch, "stages.train_variant", "recursive")
    evaluate = partial(stage, scratch, "stages.evaluate", "recursive")
    in_scratch = [
        measured("a stage that trains nothing (configure)", 4, configure, runs),
        measured("train-variant, one epoch of every seed", None, train, 1),
        measured("evaluate", None, evaluate, runs),
    ]
    if smoke:
        return in_scratch
    return [
        measured("`dvc repro`, nothing to do", 2.5, repro),
        *in_scratch,
        measured("plot", 30, partial(plot, scratch / "plot")),
    ]


def measured(
    name: str, limit_s: float | None, run: Callable[[], tuple[float, float]], runs: int = 3
) -> Chore:
    try:
        seconds, peaks = zip(*(run() for _ in range(runs)), strict=True)
    except PipelineError as error:
        return Chore(name, limit_s, problem=str(error))
    return Chore(name, limit_s, seconds, max(peaks))


def repro() -> tuple[float, float]:
    dvc = str(BIN / "dvc")
    dry = subprocess.run([dvc, "repro", "--dry"], capture_output=True, text=True, env=ENVIRONMENT)
    if dry.returncode or "Running stage" in dry.stdout:
        raise PipelineError("there is something to do; run `dvc repro` first")
    return timed([dvc, "repro"], Path.cwd())


def plot(folder: Path) -> tuple[float, float]:
    """On the pipeline's own results, all variants: they have to be there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("stages", "data", "models", "configs", "params.yaml"):
        (folder / name).symlink_to(Path(name).absolute())
    shutil.copytree("reports", folder / "reports")
    return stage(folder, "stages.plot")
