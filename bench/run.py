"""`make bench`: this project's training beside the paper's procedure and plain PyTorch.

All contenders stay alive and take turns, several rounds, on the same machine and the same faces:
machines drift, so only what was measured side by side is compared. Writes
reports/benchmarks/<processor>.json, and reports/benchmark.md and .png of what is there.

`python -m bench.run --smoke` takes a minute: few drawn faces, one core, one short round, without
Keras where it is not installed. It prints its page and leaves reports/ alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import chores, limits, report
from bench.anatomy import flops_per_image
from bench.contender import BATCH, TRAININGS
from bench.watch import Watch
from stages.common.cores import cores
from stages.common.errors import PipelineError

KERAS_PYTHON = Path(".venv-bench/bin/python")


class Contender:
    """Processes kept alive between measurements; together they train `trainings` models at once."""

    def __init__(self, name: str, command: list[str], processes: int, trainings: int) -> None:
        self.name, self.trainings = name, trainings
        self.started = time.perf_counter()
        self.processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        self.peak_mb = 0.0

    def wait(self) -> None:
        """Until all processes are ready to train."""
        self._answers()
        self.startup_s = time.perf_counter() - self.started

    def _answers(self) -> list[str]:
        lines = [process.stdout.readline() for process in self.processes]
        if not all(lines):
            code = self.processes[lines.index("")].wait()
            raise PipelineError(f"the contender '{self.name}' ended early, with exit status {code}")
        return lines

    def images_per_second(self, training: str, batches: int) -> float:
        """All processes together, until the last one has finished."""
        with Watch((process.pid for process in self.processes), interval=1) as watch:
            started = time.perf_counter()
            for process in self.processes:
                process.stdin.write(f"{training} {batches}\n")
                process.stdin.flush()
            images = sum(int(line) for line in self._answers())
            seconds = time.perf_counter() - started
        self.peak_mb = max(self.peak_mb, watch.peak_mb)
        return images / seconds

    def close(self) -> None:
        for process in self.processes:
            process.stdin.close()
            process.wait()


def start_contenders(
    running: ExitStack, dataset: str, data: Path, cores: int, smoke: bool
) -> list[Contender]:
    """Contenders that are ready to train, until `running` ends."""

    def command(python: object, *words: str, threads: int = cores) -> list[str]:
        return [str(python), "-m", *words, "--threads", str(threads)]

    faces = ("--faces", str(data / "faces.npy"))
    keras = (KERAS_PYTHON, "bench.keras_procedure", *faces)
    plain = (sys.executable, "bench.pytorch_plain", "--archive", str(data / f"{dataset}.tar"))
    ours = (sys.executable, "bench.ours", *faces, "--formulation")
    plans = []  # names, commands, processes, and how many models they train at a time
    if not smoke or KERAS_PYTHON.exists():
        name = "the paper's procedure in Keras"
        plans.append((f"{name}, {cores} threads", command(*keras), 1, 1))
        plans.append((f"{name}, {cores} processes", command(*keras, threads=1), cores, cores))
    plans.append((f"plain PyTorch, decoding JPEGs, {cores} threads", command(*plain), 1, 1))
    for how, formulation in (
        (", plain formulation", "plain"),
        (", torch.compile", "compiled"),
        ("", "kernels"),
    ):
        if not smoke or formulation != "compiled":  # that takes a minute
            name = f"this project{how}, {cores} seeds side by side"
            plans.append((name, command(*ours, formulation), 1, cores))
    contenders = []
    for name, *plan in plans:
        print(f"starting {name}", flush=True)
        contenders.append(Contender(name, *plan))
        running.callback(contenders[-1].close)
        contenders[-1].wait()
    return contenders


def compete(contenders: list[Contender], rounds: int, seconds: float, cores: int) -> dict:
    """Images per second of every contender and training, a value a round; and of the machine."""
    batches = {}
    for contender in contenders:
        for training in TRAININGS:
            each = contender.images_per_second(training, 10) / contender.trainings
            batches[contender, training] = max(3, round(seconds * each / BATCH))
    paces = {contender.name: {training: [] for training in TRAININGS} for contender in contenders}
    gflops = []
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}", flush=True)
        gflops.append(limits.gflops(cores))
        for training in TRAININGS:
            for contender in contenders:
                pace = contender.images_per_second(training, batches[contender, training])
                paces[contender.name][training].append(pace)
    return {"images_per_second": paces, "gflops": gflops}


def measure(scratch: Path, rounds: int, seconds: float, cores: int, smoke: bool) -> dict:
    print("preparing faces", flush=True)
    dataset, found = chores.prepare_faces(scratch, smoke)
    with ExitStack() as running:
        contenders = start_contenders(running, dataset, scratch / "data", cores, smoke)
        results = compete(contenders, rounds, seconds, cores)
    print("taking a step apart", flush=True)
    command = [sys.executable, "-m", "bench.anatomy", "--faces", str(scratch / "data/faces.npy")]
    steps = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print("timing the stages", flush=True)
    found += chores.run_chores(scratch, smoke)
    return results | {
        "startup_s": {contender.name: contender.startup_s for contender in contenders},
        "peak_mb": {contender.name: contender.peak_mb for contender in contenders},
        "flops_per_image": flops_per_image(),
        "steps": steps,
        "gflops_of_one_core": limits.gflops(1),
        "dataset": dataset,
        "chores": [vars(chore) for chore in found],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement, about")
    parser.add_argument("--smoke", action="store_true", help="whether all of it runs")
    given = parser.parse_args()
    try:
        if not given.smoke and not KERAS_PYTHON.exists():
            raise PipelineError(f"{KERAS_PYTHON} is missing; run `make bench`, which makes it")
        with tempfile.TemporaryDirectory(dir=Path("bench").absolute(), prefix="scratch") as name:
            scratch, used = Path(name), 1 if given.smoke else cores()
            rounds, seconds = (1, 0.0) if given.smoke else (given.rounds, given.seconds)
            results = measure(scratch, rounds, seconds, used, given.smoke)
            page = report.write(results, used, scratch if given.smoke else Path("reports"))
            print(page.read_text(encoding="utf-8") if given.smoke else f"The page: {page}")
    except PipelineError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
