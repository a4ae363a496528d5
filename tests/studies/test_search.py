"""The hyperparameter search: what counts, what it writes, resuming, and workers that die."""

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.common.errors import PipelineError
from stages.common.settings import read_params
from tests.conftest import made_faces

optuna = pytest.importorskip("optuna")

from optuna.trial import TrialState, create_trial  # noqa: E402

from studies import found, search  # noqa: E402

# Heartbeats, retries, groups and figures.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
ROOT = Path(__file__).parents[2]
SETTINGS = search._DEFAULT | {
    "training": "recursive", "lr": 0.00123, "stacked_epochs": 1, "epochs": 10,
    "level_weights": "equal", "implementation": "described", "averaging": 0.98,
    "schedule": "cosine", "upsample": "transposed", "downsample": "stride",
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with few faces of 64 pixels prepared, where the search is run."""
    from tests.model.test_on_dask import write

    write(made_faces(96, 64), tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def smaller(whole: search.Search) -> search.Search:
    """The same for pictures of 64 pixels, which have one level less."""

    def suggest(trial: optuna.Trial) -> dict[str, Any]:
        settings = whole.suggest(trial) | {"size": 64}
        if settings["training"] == "joint":
            settings["level_weights"] = settings["level_weights"][:-1]
        return settings

    return whole._replace(suggest=suggest)


def made_study(*trials: tuple[float, float, int, int | None]) -> "optuna.Study":
    """Finished trials: error, by how much they miss clarity, seed, and which trial's finals.

    The settings of trial n and of its finals have lr = 0.001 * (n + 1).
    """
    study = optuna.create_study(study_name="best, made")
    for number, (error, missed, seed, final_of) in enumerate(trials):
        lr = 0.001 * ((number if final_of is None else final_of) + 1)
        attributes = {"error": error, "seconds": 1.0, "seed": seed}
        attributes |= {"settings": SETTINGS | {"lr": lr}}
        attributes |= {} if final_of is None else {"final_of": final_of}
        study.add_trial(
            create_trial(
                value=error,
                params={"lr": lr},
                distributions={"lr": optuna.distributions.FloatDistribution(0, 1)},
                user_attrs=attributes,
                intermediate_values={5: error * (1 + max(0.0, missed))},
                constraints={"blur": missed, "grid": -0.5},
            )
        )
    return study


def test_the_finalist_of_the_lowest_cost_wins_and_dvc_takes_it(tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    trials = [(100.0, 0.5, 0, None), (130.0, -0.1, 0, None), (110.0, 0.1, 0, None)]
    finals = [(99.0, 0.5, 0, 0), (129.0, -0.1, 0, 1), (109.0, 0.1, 0, 2)]
    found.write(tmp_path / "search", [made_study(*trials, *finals)], "own")
    text = (tmp_path / "search/best.yaml").read_text(encoding="utf-8")
    entry = yaml.safe_load(text)["best"]
    assert entry["lr"] == 0.003

    params = shutil.copy(ROOT / "params.yaml", tmp_path)
    command = next(line for line in text.splitlines() if line.startswith("# dvc exp run"))
    apply_overrides(params, [command.split("'")[1]])
    variant = read_params(params).variants["best"]
    assert variant.model_dump() == {key: entry[key] for key in variant.model_dump()}
    with open(tmp_path / "search/trials.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["clear"] for row in rows] == ["false", "true", "false"] * 2
    assert [row["final_of"] for row in rows] == ["", "", "", "0", "1", "2"]
    assert {path.suffix for path in (tmp_path / "search").iterdir()} == {".csv", ".yaml", ".png"}


def test_clarity_is_told_only_where_it_was_asked_for(tmp_path: Path) -> None:
    study = made_study((100.0, -0.1, 0, None))
    study.add_trial(
        create_trial(value=90.0, user_attrs={"error": 90.0}, intermediate_values={5: 9})
    )
    found.write(tmp_path / "search", [study], "own")
    with open(tmp_path / "search/trials.csv", encoding="utf-8", newline="") as file:
        assert [row["clear"] for row in csv.DictReader(file)] == ["true", ""]


def test_the_mean_of_a_finalist_s_seeds_counts() -> None:
    trials = [(100.0, -0.1, 0, None), (101.0, -0.1, 0, None), (99.0, 0.2, 0, None)]
    finals = [(120.0, -0.1, 0, 0), (90.0, -0.1, 1, 0), (103.0, -0.1, 0, 1), (101.0, -0.1, 1, 1)]
    one_diverged, asked_twice = (50.0, -0.1, 0, 2), (103.0, -0.1, 0, 1)
    study = made_study(*trials, *finals, one_diverged, asked_twice)
    assert [trial.number for trial in found.promising(study)] == [0, 1, 2]
    best = found.winner(study)
    assert best is not None and best.user_attrs["final_of"] == 1


def test_without_a_final_nothing_is_proposed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found.write(tmp_path / "search", [made_study((90.0, 0.1, 0, None))], "own")
    assert not [*(tmp_path / "search").glob("*.yaml")]
    assert "no finalist of 1 trials" in capsys.readouterr().out


def test_a_search_goes_on_where_it_stopped(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "EPOCHS", 1)
    monkeypatch.setattr(found, "EPOCHS", 2)
    monkeypatch.setattr(search, "end_with_parent", lambda: None)
    monkeypatch.setattr(search, "FINALISTS", 1)
    stacked_tuned, best = map(smaller, search.SEARCHES)
    monkeypatch.setattr(search, "SEARCHES", [stacked_tuned, best._replace(first=[])])
    studies = [search.open_study(one, search.STORAGE) for one in search.SEARCHES]
    studies[0].enqueue_trial(search.STACKED)
    search.work(search.STORAGE, 1e-3)
    before = [study.trials for study in studies]
    assert search.sharpness_of_stacked(studies[0]) is not None
    assert [trial.user_attrs.get("seed", 0) for trial in before[0]] == [0, 0, 1]
    assert [max(trial.intermediate_values) for trial in before[0]] == [1, 2, 2]
    assert {str(trial.params) for trial in before[0]} == {str(search.STACKED)}
    search.work(search.STORAGE, 1.5 * max(search.spent(study) for study in studies))
    for study, trials in zip(studies, before, strict=True):
        assert len(study.trials) > len(trials) and study.trials[: len(trials)] == trials
    values = {trial.user_attrs["settings"]["training"] for trial in studies[0].trials}
    assert values == {"stacked"}


def test_a_storage_that_cannot_be_opened_is_told(here: Path) -> None:
    with pytest.raises(PipelineError, match="cannot be opened"):
        search.open_study(search.SEARCHES[0], "nosuch://storage")


BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
WORKER = """
import os, signal, sys
from stages.model.training import Trainer
from studies import search
from tests.studies.test_search import smaller

search.HEARTBEAT, search.EPOCHS = 1, 2
search.SEARCHES = [*map(smaller, search.SEARCHES)]
trained = []

def run_epoch(self, whole=Trainer.run_epoch):
    trained.append(self)
    if sys.argv[2] == "dies" and len(trained) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    whole(self)

Trainer.run_epoch = run_epoch
search.work(sys.argv[1], 10_000.0)
"""


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a server of Debian's packages, which must not run as root."""
    assert BIN is not None
    # Where that user can go, whatever TMPDIR is.
    with tempfile.TemporaryDirectory(dir="/tmp") as name, socket.socket() as probe:
        folder = Path(name)
        user = []
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
        probe.close()
        data = folder / "data"
        initdb = [BIN / "initdb", "-D", data, "--username=search", "--auth=trust"]
        subprocess.run([*user, *initdb], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        server = [BIN / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "-t", "90"]
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        subprocess.run([*user, *server, "-o", options, "start"], check=True, cwd=folder)
        try:
            yield f"postgresql+psycopg://search@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*user, *server, "-m", "immediate", "stop"], check=True, cwd=folder)


@pytest.mark.slow
@pytest.mark.skipif(BIN is None, reason="PostgreSQL is not installed (Debian: postgresql)")
def test_a_worker_that_is_killed_loses_no_trial(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setattr(search, "EPOCHS", 2)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with postgresql() as url:
        study = search.open_study(search.SEARCHES[0], url)
        command = [sys.executable, "-c", WORKER, url]
        workers = [subprocess.Popen([*command, how], env=environment) for how in ("dies", "lives")]
        try:
            assert workers[0].wait(timeout=120) == -signal.SIGKILL
            end = time.monotonic() + 120
            retry = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number
            while not (again := [t for t in study.trials if retry(t) is not None and t.value]):
                assert workers[1].poll() is None and time.monotonic() < end
                time.sleep(0.2)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        [lost] = study.get_trials(states=[TrialState.FAIL])
        assert retry(again[0]) == lost.number
        assert again[0].params == lost.params and again[0].state is not TrialState.FAIL
        assert [trial.number for trial in study.trials] == [*range(len(study.trials))]
