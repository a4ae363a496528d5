"""Everything around training, timed: `dvc repro`, and the stages in a scratch folder."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.watch import Watch
from stages.common.errors import PipelineError

SCRATCH = Path("bench/scratch").absolute()
LFW = "lfw-deepfunneled"
SYNTHETIC = 2000  # faces drawn where there is no LFW
MEMORY_LIMIT_MB = 3000
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
}


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


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a command. Raises PipelineError with what it said last."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with Watch([process.pid]) as watch:
        said = process.communicate()[0].strip().splitlines()
    if process.returncode:
        raise PipelineError(f"{' '.join(command[1:])}: {said[-1] if said else process.returncode}")
    return time.perf_counter() - started, watch.peak_mb


def stage(folder: Path, *arguments: str, **environment: str) -> tuple[float, float]:
    command = [sys.executable, "-m", *arguments]
    return timed(command, folder, ENVIRONMENT | environment)


def prepare_faces() -> tuple[str, list[Chore]]:
    """The dataset's name and what `download` and `preprocess` took to put it into SCRATCH/data.

    LFW from LFW_ARCHIVE or from the pipeline's own data/, else synthetic faces.
    """
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir()
    (SCRATCH / "stages").symlink_to(Path("stages").absolute())
    archive = os.environ.get("LFW_ARCHIVE") or f"data/{LFW}.tar"
    dataset = LFW if Path(archive).exists() else "synthetic"
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["download"] |= {"dataset": dataset, "count": SYNTHETIC}
    params["train"] |= {"epochs": 1, "seeds": [0, 1, 2], "released_seeds": [0]}
    params["variants"] = {"recursive": params["variants"]["recursive"]}
    (SCRATCH / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    environment = {"LFW_ARCHIVE": str(Path(archive).absolute())} if dataset == LFW else {}
    stage(SCRATCH, "stages.configure")
    download = stage(SCRATCH, "stages.download", **environment)
    preprocess = stage(SCRATCH, "stages.preprocess")
    together = download[0] + preprocess[0], max(download[1], preprocess[1])
    return dataset, [
        chore("download, from a local archive" if dataset == LFW else "download", None, download),
        chore("preprocess", None, preprocess),
        chore("download and preprocess together", 40, together),
    ]


def run_chores() -> list[Chore]:
    """The rest; `prepare_faces` has been called."""
    return [
        measured("`dvc repro`, nothing to do", 2.5, repro),
        measured(
            "a stage that trains nothing (configure)", 4, lambda: stage(SCRATCH, "stages.configure")
        ),
        measured("train-variant, one epoch of every seed", None, train, runs=1),
        measured("evaluate", None, evaluate),
        measured("plot", 30, plot),
    ]


def chore(name: str, limit_s: float | None, *runs: tuple[float, float]) -> Chore:
    seconds, peaks = zip(*runs, strict=True)
    return Chore(name, limit_s, seconds, max(peaks))


def measured(
    name: str, limit_s: float | None, run: Callable[[], tuple[float, float]], runs: int = 3
) -> Chore:
    try:
        return chore(name, limit_s, *(run() for _ in range(runs)))
    except PipelineError as error:
        return Chore(name, limit_s, problem=str(error))


def repro() -> tuple[float, float]:
    dvc = str(Path(sys.executable).with_name("dvc"))
    dry = subprocess.run([dvc, "repro", "--dry"], capture_output=True, text=True, env=ENVIRONMENT)
    if dry.returncode:
        raise PipelineError(f"dvc repro --dry failed: {dry.stderr.strip().splitlines()[-1]}")
    if "Running stage" in dry.stdout:
        raise PipelineError("there is something to do; run `dvc repro` first")
    return timed([dvc, "repro"], Path.cwd(), ENVIRONMENT)


def train() -> tuple[float, float]:
    return stage(SCRATCH, "stages.train_variant", "recursive")


def evaluate() -> tuple[float, float]:
    return stage(SCRATCH, "stages.evaluate", "recursive")


def plot() -> tuple[float, float]:
    """On the pipeline's own results, all variants: they have to be there."""
    folder = SCRATCH / "plot"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("stages", "data", "models", "configs", "params.yaml"):
        (folder / name).symlink_to(Path(name).absolute())
    shutil.copytree("reports", folder / "reports")
    return stage(folder, "stages.plot")
