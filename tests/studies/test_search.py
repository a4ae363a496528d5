"""The hyperparameter search: what counts, what it writes, resuming, and workers that die."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages.common.errors import PipelineError
from stages.common.settings import read_params
from tests.conftest import ROOT, made_faces, small
from tests.model.test_on_dask import free_port, write

optuna = pytest.importorskip("optuna")

from optuna.trial import TrialState, create_trial  # noqa: E402

from studies import search  # noqa: E402

# Heartbeats, retries and groups.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
SETTINGS = small(reach=2, schedule="cosine", epochs=20).model_dump(exclude_none=True)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with few faces of 64 pixels prepared, where the search is run."""
    write(made_faces(96, 64), tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made_study(*trials: tuple[float, int, int | None]) -> "optuna.Study":
    """Finished trials: error, seed, and which trial's finals. The settings of trial n and of its
    finals have lr = 0.001 * (n + 1)."""
    study = optuna.create_study(study_name="by_levels, made")
    for number, (error, seed, final_of) in enumerate(trials):
        lr = 0.001 * ((number if final_of is None else final_of) + 1)
        told = {"seconds": 1.0, "seed": seed, "settings": SETTINGS | {"lr": lr}}
        study.add_trial(
            create_trial(
                value=error,
                params={"lr": lr},
                distributions={"lr": optuna.distributions.FloatDistribution(0, 1)},
                user_attrs=told | ({} if final_of is None else {"final_of": final_of}),
            )
        )
    return study


def test_the_finalist_of_the_lowest_error_wins_and_dvc_takes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dvc.utils.hydra import apply_overrides

    folder = tmp_path / "search"
    trials = [(100.0, 0, None), (130.0, 0, None), (90.0, 0, None)]
    finals = [(99.0, 1, 0), (129.0, 1, 1), (98.0, 1, 2)]
    search.write(folder, [made_study(*trials, *finals)], "own")
    text = (folder / "by_levels.yaml").read_text(encoding="utf-8")
    name = "recursive_reach_2_searched"
    entry = yaml.safe_load(text)[name]
    assert entry["lr"] == 0.003 and f"by_levels: {name}, trial 2 of 6" in capsys.readouterr().out

    params = shutil.copy(ROOT / "params.yaml", tmp_path)
    command = next(line for line in text.splitlines() if line.startswith("# dvc exp run"))
    apply_overrides(params, [command.split("'")[1]])
    variant = read_params(params).variants[name].model_dump(exclude_none=True)
    seeds = {"seeds": [*range(5)], "released_seeds": []}
    assert variant == {key: entry[key] for key in variant} | seeds
    table = pd.read_csv(folder / "trials.csv")
    assert [*table["user_attrs_final_of"].fillna(-1)] == [-1, -1, -1, 0, 1, 2]
    assert {*table["side"]} == {"by_levels"} and [*table["number"]] == [*range(6)]
    assert {path.suffix for path in folder.iterdir()} == {".csv", ".yaml"}


def test_the_mean_of_a_finalist_s_seeds_counts() -> None:
    trials = [(100.0, 0, None), (101.0, 0, None), (99.0, 0, None)]
    finals = [(120.0, 1, 0), (90.0, 2, 0), (103.0, 1, 1), (101.0, 2, 1)]
    one_diverged, asked_twice = (50.0, 1, 2), (103.0, 1, 1)
    study = made_study(*trials, *finals, one_diverged, asked_twice)
    assert [trial.number for trial in search.promising(study)] == [2, 0, 1]
    best = search.winner(study)
    assert best is not None and best.user_attrs["final_of"] == 1


def test_without_a_final_nothing_is_proposed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search.write(tmp_path / "search", [made_study((90.0, 0, None))], "own")
    assert not [*(tmp_path / "search").glob("*.yaml")]
    assert "no finalist of 1 trials" in capsys.readouterr().out


def test_a_search_goes_on_where_it_stopped(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First trials are trained to the end, and finals as long, whatever the budget is."""
    monkeypatch.setattr(search, "EPOCHS", 2)
    monkeypatch.setattr(search, "end_with_parent", lambda: None)
    monkeypatch.setattr(search, "FINALISTS", 1)
    monkeypatch.setattr(search, "FINAL_SEEDS", (1,))
    studies = [search.open_study(side, search.STORAGE) for side in search.SIDES]
    for side, study in zip(search.SIDES, studies, strict=True):
        study.enqueue_trial(side.first[0], user_attrs={"first": True})
    search.work(search.STORAGE, 1e-3)
    before = [study.trials for study in studies]
    for side, trials in zip(search.SIDES, before, strict=True):
        assert [trial.user_attrs.get("seed", 0) for trial in trials] == [0, 1]
        assert [max(trial.intermediate_values) for trial in trials] == [2, 2]
        assert all(trial.params == side.first[0] for trial in trials)
    search.work(search.STORAGE, 1.5 * max(search.spent(study) for study in studies))
    for study, trials in zip(studies, before, strict=True):
        assert len(study.trials) > len(trials) and study.trials[: len(trials)] == trials
    kinds = [{t.user_attrs["settings"]["training"] for t in study.trials} for study in studies]
    assert kinds[0] == {"stacked"} and kinds[1] <= {"recursive", "joint"}


def test_what_ends_stacked_is_not_judged_before(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "EPOCHS", 2)
    by_levels, people = search.SIDES[1], search.validation_people()
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=0.0))
    recursive, then_stacked = by_levels.first
    study.enqueue_trial(recursive)
    study.enqueue_trial(then_stacked | {"stacked_epochs": 1})
    study.optimize(lambda trial: search.objective(trial, by_levels, people, 1e9), 2)
    assert [t.state for t in study.trials] == [TrialState.PRUNED, TrialState.COMPLETE]


def test_a_storage_that_cannot_be_opened_is_told(here: Path) -> None:
    with pytest.raises(PipelineError, match="cannot be opened"):
        search.open_study(search.SIDES[0], "nosuch://storage")


BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
WORKER = """
import os, signal, sys
from stages.model.training import Trainer
from studies import search

search.HEARTBEAT, search.EPOCHS = 1, 2
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
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder, port, user = Path(name), free_port(), []
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
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
        study = search.open_study(search.SIDES[0], url)
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
