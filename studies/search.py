"""Hyperparameter search with Optuna, for a training that is best on error and on clarity.

`python -m studies.search [--seconds 7200] [--workers N] [--storage URL]` searches twice with the
same budget: `stacked_tuned`, stacked trainings with the lowest error, and `best`, any training with
the lowest error that is clear: at least twice the high frequencies of `stacked`, and a grid ratio
of at most 2; the error is multiplied by one plus the fractions by which these are missed. All is
measured with averaged weights on a validation part of the training people. Trials have few epochs,
and poor ones are pruned; the three best, and `stacked` itself, are then trained for as many epochs
as a variant with two seeds, and the lowest mean wins. Results go to reports/studies/search/.

SECONDS is what both searches together may take of as many cores as this machine has, or N, in time
of their processors; whatever else runs there does not change what is searched. A search that was
stopped or killed goes on. More machines join by the same command with the same storage,
postgresql+psycopg://USER@HOST/DATABASE, and use the budget up sooner. A trial whose worker is lost
is tried again.
"""

import hashlib
import sys
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import optuna
from optuna import Study, Trial
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.processes import end_with_parent
from stages.common.settings import (
    CONFIGS,
    DownloadSettings,
    ModelSettings,
    Training,
    read_config,
)
from stages.data import faces
from stages.data.faces import Faces
from stages.measure.compute import evenly_spaced
from stages.model import store
from stages.model.side_by_side import room
from stages.model.training import Diverged, Trainer
from studies import found
from studies.clear import clarity_of
from studies.longer import stretched
from studies.validation import validation

warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats, retries, groups, figures
EPOCHS = 5  # of a trial; its finalists have those of a variant
SHARPER = 2.0  # times the high frequencies of `stacked`
LARGEST_GRID = 2.0
LARGEST_BATCH = 64
# The lowest of many errors is also the luckiest, and some that lead after five epochs get worse up
# to the tenth (seen: recursive, shared norm, lr 0.0016: 199 to 287).
FINALISTS, FINAL_SEEDS, FINALS = 3, (0, 1), 0.3  # the last: fraction of the budget
MEASURED = 256  # validation images behind the clarity of a trial
HEARTBEAT = 30  # seconds; a worker that is silent for three of them is lost
STORAGE = "sqlite:///data/search.db"
WARMUP = 2  # epochs before pruning; long averages and the cosine's large steps start poorly
# The first trial of `stacked_tuned`: the clarity of `best` is measured against it.
STACKED = {
    "norm": "none", "activation": "selu", "lr": 1e-3, "batch_size": 32, "1 - averaging": 0.01,
    "schedule": "constant",
}  # fmt: skip
# What a search of 40 minutes had found best: the longer one starts from it, for both alike.
STACKED_FOUND = STACKED | {"lr": 7e-4, "batch_size": 16, "1 - averaging": 0.02}
FIRST = [
    STACKED_FOUND | {"training": "recursive", "norm": "shared", "lr": 9e-4, "1 - averaging": 0.01},
    STACKED | {"training": "recursive"},
    STACKED | {"training": "recursive", "norm": "shared"},
    STACKED | {"training": "recursive, then stacked", "norm": "shared", "stacked_epochs": 1},
    STACKED | {"training": "joint", "norm": "tied", "level ratio": 1.0},
]


class Search(NamedTuple):
    """One of the two: what its trials train, and which are tried first."""

    name: str
    suggest: Callable[[Trial], dict[str, Any]]
    first: list[dict[str, Any]]


def suggest_recipe(trial: Trial) -> dict[str, Any]:
    """What both searches choose."""
    return {
        "variational": False,
        "epochs": EPOCHS,
        "norm": trial.suggest_categorical("norm", ["none", "batch", "shared", "tied"]),
        "activation": trial.suggest_categorical("activation", ["selu", "relu"]),
        "lr": round(trial.suggest_float("lr", 3e-4, 5e-3, log=True), 6),
        "batch_size": trial.suggest_int("batch_size", 16, LARGEST_BATCH, step=16),
        "averaging": round(1 - trial.suggest_float("1 - averaging", 2e-3, 5e-2, log=True), 4),
        "schedule": trial.suggest_categorical("schedule", ["constant", "cosine"]),
    }


def suggest_stacked(trial: Trial) -> dict[str, Any]:
    return {"training": "stacked"} | suggest_recipe(trial)


def suggest_any(trial: Trial) -> dict[str, Any]:
    kinds = ["recursive", "recursive, then stacked", "joint"]
    training = trial.suggest_categorical("training", kinds)
    own: dict[str, Any] = {"training": training}
    if training == "joint":  # the weight of a level over that of the level before
        ratio = trial.suggest_float("level ratio", 0.25, 4.0, log=True)
        powers = [ratio**k for k in range(7)]
        own["level_weights"] = [float(f"{7 * power / sum(powers):.4g}") for power in powers]
    elif training != "recursive":
        own = {"training": "recursive"}
        own["stacked_epochs"] = trial.suggest_int("stacked_epochs", 1, max(1, EPOCHS - 2))
    return own | suggest_recipe(trial)


SEARCHES = [
    Search("stacked_tuned", suggest_stacked, [STACKED, STACKED_FOUND]),
    Search("best", suggest_any, FIRST),
]


@entry_point
def main(*words: str) -> None:
    parser = ArgumentParser(prog="python -m studies.search", add_help=False)
    parser.add_argument("--seconds", type=float, default=2 * 3600)
    parser.add_argument("--workers", type=int, default=room())
    parser.add_argument("--storage", default=STORAGE)
    given = parser.parse_args(words)
    if given.seconds <= 0 or given.workers < 1:
        raise PipelineError("--seconds and --workers must be above 0")
    validation_people()
    studies = [open_study(search, given.storage) for search in SEARCHES]  # makes the tables, too
    for search, study in zip(SEARCHES, studies, strict=True):
        for params in search.first:
            study.enqueue_trial(params, skip_if_exists=True)
    budget = given.seconds * given.workers / len(SEARCHES)
    context = get_context("spawn")
    workers = [
        context.Process(target=work, args=(given.storage, budget)) for _ in range(given.workers)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if lost := sum(worker.exitcode != 0 for worker in workers):
        raise PipelineError(
            f"{lost} of {len(workers)} workers ended early; run the same again to go on"
        )
    dataset = read_config(DownloadSettings, CONFIGS / "download.yaml").dataset
    found.write(Path("reports/studies/search"), studies, dataset)


def work(storage: str, budget: float) -> None:
    """A worker process: trials of both searches until each has used `budget` seconds of a core."""
    end_with_parent()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    people = validation_people()
    stacked_tuned, best = SEARCHES
    study = open_study(stacked_tuned, storage)
    run(stacked_tuned, study, people, None, budget)
    begun = (TrialState.WAITING, TrialState.RUNNING)
    while (sharpness := sharpness_of_stacked(study)) is None:  # another worker has it, or had
        if not study.get_trials(states=begun):
            raise PipelineError("`stacked` itself diverged; there is nothing to compare with")
        study.optimize(
            lambda trial: objective(trial, stacked_tuned, people, None, 0.0), 1, gc_after_trial=True
        )
    run(best, open_study(best, storage), people, sharpness, budget)


class Sharpness(NamedTuple):
    """The high_frequency_ratio of `stacked`, trained for as long as a trial and as a final."""

    trial: float
    final: float


def run(
    search: Search, study: Study, people: Faces, stacked: Sharpness | None, budget: float
) -> None:
    """Trials until the budget is spent but for its last part, which is for the finals."""
    searched = budget * (1 - FINALS)

    def train(trial: Trial) -> float:
        return objective(trial, search, people, stacked, searched)

    while spent(study) < searched:
        study.optimize(train, 1, gc_after_trial=True)
    ended = found.promising(study)
    finalists = ended[:FINALISTS]
    finalists += [t for t in ended[FINALISTS:] if stacked is None and _is_stacked(t)]
    asked = {(t.user_attrs.get("final_of"), t.user_attrs.get("seed")) for t in study.trials}
    for trial in finalists:
        for seed in FINAL_SEEDS:
            if (trial.number, seed) not in asked:
                final = {"final_of": trial.number, "seed": seed}
                study.enqueue_trial(trial.params, user_attrs=final)
    while study.get_trials(states=[TrialState.WAITING]):
        study.optimize(train, 1, gc_after_trial=True)


def objective(
    trial: Trial, search: Search, people: Faces, stacked: Sharpness | None, budget: float
) -> float:
    """The validation error of one training. A trial that the budget ends counts as pruned, but for
    `stacked` itself and finals.

    stacked: what clarity is compared with; None leaves it out.
    """
    settings = ModelSettings.model_validate(search.suggest(trial))
    final = "final_of" in trial.user_attrs
    if final:
        settings = stretched(settings, found.EPOCHS)
    sharpness = 0.0 if stacked is None else SHARPER * (stacked.final if final else stacked.trial)
    seed = trial.user_attrs.get("seed", 0)
    trial.set_user_attr("settings", settings.model_dump())
    trial.set_user_attr("seconds", 0.0)
    trainer = Trainer(Training(settings=settings, seed=seed, faces="validation"), people)
    held_out = people.rows("test")
    images = people.images[held_out[evenly_spaced(len(held_out), MEASURED)]]
    needed = final or (stacked is None and _is_stacked(trial))
    started = time.process_time()
    error, faults, pruned = float("inf"), {"blur": 0.0, "grid": 0.0}, False
    while trainer.epoch < settings.epochs and not pruned:
        try:
            trainer.run_epoch()
        except Diverged as diverged:
            trial.set_user_attr("diverged", str(diverged))
            raise optuna.TrialPruned from None
        error = next(p.value for p in reversed(trainer.curve) if p.loss == "averaged_error")
        clear = clarity_of(trainer.average.model, images)
        if sharpness:
            faults = shortcomings(clear, sharpness)
        for name, value in clear.items():
            trial.set_user_attr(name, value)
        trial.set_user_attr("error", error)
        trial.set_user_attr("seconds", time.process_time() - started)
        # What is blurred or has a grid must not have those pruned that have neither.
        trial.report(error * (1 + sum(max(0.0, x) for x in faults.values())), trainer.epoch)
        pruned = not needed and (trial.should_prune() or spent(trial.study) > budget)
    if sharpness:
        for name, value in faults.items():
            trial.set_constraint(name, value)
    if pruned:
        raise optuna.TrialPruned
    return error


def shortcomings(clear: dict[str, float], sharpness: float) -> dict[str, float]:
    """What has to be 0 or less: by which factor sharpness is missed, and a grid too strong."""
    high = clear["high_frequency_ratio"]
    blur = sharpness / high if high > sharpness / 1000 else 1000.0
    return {"blur": blur - 1, "grid": clear["grid_ratio"] / LARGEST_GRID - 1}


def validation_people() -> Faces:
    """The faces of a search. Raises PipelineError where they are too few for its batches."""
    people = validation(faces.load())
    train, held_out = len(people.rows("train")), len(people.rows("test"))
    if train < LARGEST_BATCH or not held_out:
        raise PipelineError(
            f"a search needs {LARGEST_BATCH} training faces beside those to validate on, and there "
            f"are {train} and {held_out}; use more pictures"
        )
    return people


def open_study(search: Search, storage: str) -> Study:
    """A search's study: where it was left, if faces and the code that trains are the same."""
    training = Training(
        settings=ModelSettings(training="stacked", **_DEFAULT), seed=0, faces=faces.load().hash
    )
    state = hashlib.sha256(str(store.identity(training)).encode()).hexdigest()[:12]
    try:
        return optuna.create_study(
            study_name=f"{search.name}, {EPOCHS} epochs, {state}",
            storage=_storage(storage),
            sampler=optuna.samplers.TPESampler(multivariate=True, group=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=WARMUP + 1),
            load_if_exists=True,
        )
    except Exception as error:  # of whatever driver the storage has
        raise PipelineError(
            f"the storage {storage} cannot be opened ({type(error).__name__}: {error}); a file is "
            f"{STORAGE}, a server postgresql+psycopg://USER@HOST/DATABASE"
        ) from None


_DEFAULT: dict[str, Any] = {
    "norm": "none", "activation": "selu", "variational": False, "epochs": EPOCHS, "batch_size": 32,
    "lr": 1e-3,
}  # fmt: skip


def _storage(url: str) -> optuna.storages.RDBStorage:
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None,
        heartbeat_interval=HEARTBEAT,
        grace_period=3 * HEARTBEAT,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )


def spent(study: Study) -> float:
    """The seconds of a core that a study's trials took, those lost and those running among them."""
    trials = study.get_trials(deepcopy=False)
    return sum(float(trial.user_attrs.get("seconds", 0.0)) for trial in trials)


def sharpness_of_stacked(study: Study) -> Sharpness | None:
    """That of `stacked` itself, in `stacked_tuned`; None before it and a final of it have ended."""
    of_trials: list[float] = []
    of_finals: list[float] = []
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        if _is_stacked(trial):
            own = of_finals if "final_of" in trial.user_attrs else of_trials
            own.append(float(trial.user_attrs["high_frequency_ratio"]))
    return Sharpness(fmean(of_trials), fmean(of_finals)) if of_trials and of_finals else None


def _is_stacked(trial: Trial | FrozenTrial) -> bool:
    return all(trial.params.get(name) == value for name, value in STACKED.items())


if __name__ == "__main__":
    main(*sys.argv[1:])
