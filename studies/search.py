"""Hyperparameter search with Optuna that either of two sides can win.

`python -m studies.search [--seconds 7200] [--workers N] [--storage URL]` searches among stacked
trainings, and among trainings by levels: recursive ones of reach 1 to 3, recursive ones that end
stacked, and joint ones. Both sides have the same objective: the error of averaged weights after 20
epochs on a validation part of the training people. They have the same budget and as many first
trials. First trials are trained to the end; others are pruned where they stand badly, but for those
that end stacked, which do so until then. The three trainings of lowest error of each side are then
trained with two further seeds, and the lowest mean wins. reports/studies/search/ gets all
trainings, and the winners as entries of `variants`.

SECONDS is the processor time that both sides may take of each core of this machine, or of N: what
else runs there does not change what is searched. A search that was stopped or killed goes on. More
machines join by the same command with the same storage, postgresql+psycopg://USER@HOST/DATABASE,
and use the budget up sooner. A trial whose worker is lost is tried again.
"""

import hashlib
import shlex
import sys
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import optuna
import pandas as pd
import yaml
from optuna import Study, Trial
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.files import atomic_folder
from stages.common.processes import end_with_parent
from stages.common.settings import CONFIGS, DownloadSettings, ModelSettings, Training, read_config
from stages.data import faces
from stages.data.faces import SIZE, Faces
from stages.model import store
from stages.model.side_by_side import room
from stages.model.training import Diverged, Trainer
from studies.validation import validation

warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats, retries, groups
EPOCHS = 20
WARMUP = 5  # epochs before pruning; long averages and the cosine's large steps start poorly
LARGEST_BATCH = 64
# The lowest of many errors is also the luckiest.
FINALISTS, FINAL_SEEDS, FINALS = 3, (1, 2), 0.3  # the last: fraction of the budget
HEARTBEAT = 30  # seconds; a worker that is silent for three of them is lost
STORAGE = "sqlite:///data/search.db"
FOLDER = Path("reports/studies/search")
# The first trials: the paper's training, and what an earlier search had found.
PAPER = {
    "norm": "none", "activation": "selu", "lr": 1e-3, "batch_size": 32, "1 - averaging": 0.01,
    "schedule": "constant",
}  # fmt: skip
STACKED_FOUND = {"lr": 4.93e-4, "batch_size": 16, "1 - averaging": 0.0088}
LEVELS_FOUND = {
    "training": "recursive, then stacked", "stacked_epochs": 4, "norm": "tied", "lr": 1.367e-3,
    "batch_size": 16, "1 - averaging": 0.0457, "schedule": "cosine",
}  # fmt: skip


def suggest_recipe(trial: Trial) -> dict[str, Any]:
    """What both sides choose."""
    return {
        "epochs": EPOCHS,
        "norm": trial.suggest_categorical("norm", ["none", "batch", "shared", "tied"]),
        "activation": trial.suggest_categorical("activation", ["selu", "relu"]),
        "lr": round(trial.suggest_float("lr", 3e-4, 5e-3, log=True), 6),
        "batch_size": trial.suggest_int("batch_size", 16, LARGEST_BATCH, step=16),
        "averaging": round(1 - trial.suggest_float("1 - averaging", 2e-3, 5e-2, log=True), 4),
        "schedule": trial.suggest_categorical("schedule", ["constant", "cosine", "linear"]),
    }


def suggest_stacked(trial: Trial) -> dict[str, Any]:
    return {"training": "stacked"} | suggest_recipe(trial)


def suggest_by_levels(trial: Trial) -> dict[str, Any]:
    kinds = ["recursive", "recursive, then stacked", "joint"]
    kind = trial.suggest_categorical("training", kinds)
    if kind == "joint":
        weights = trial.suggest_categorical("level_weights", ["equal", "image", "latent"])
        return {"training": kind, "level_weights": weights} | suggest_recipe(trial)
    if kind == "recursive":
        own = {"reach": trial.suggest_int("reach", 1, 3)}
    else:
        own = {"stacked_epochs": trial.suggest_int("stacked_epochs", 1, EPOCHS // 2)}
    return {"training": "recursive"} | own | suggest_recipe(trial)


class Side(NamedTuple):
    """What its trials train, and those that are trained first."""

    name: str
    suggest: Callable[[Trial], dict[str, Any]]
    first: list[dict[str, Any]]


SIDES = (
    Side("stacked", suggest_stacked, [PAPER, PAPER | STACKED_FOUND]),
    Side(
        "by_levels",
        suggest_by_levels,
        [PAPER | {"training": "recursive", "reach": 1}, PAPER | LEVELS_FOUND],
    ),
)


@entry_point
def main(*words: str) -> None:
    parser = ArgumentParser(prog="python -m studies.search", add_help=False)
    parser.add_argument("--seconds", type=float, default=2 * 3600)
    parser.add_argument("--workers", type=int, default=room())
    parser.add_argument("--storage", default=STORAGE)
    given = parser.parse_args(words)
    if given.seconds <= 0 or given.workers < 1:
        raise PipelineError("--seconds and --workers must be above 0")
    people = validation_people()
    studies = [open_study(side, given.storage) for side in SIDES]  # makes the tables, too
    for side, study in zip(SIDES, studies, strict=True):
        for params in side.first:
            study.enqueue_trial(params, user_attrs={"first": True}, skip_if_exists=True)
    budget = given.seconds * given.workers / len(SIDES)
    start, args = get_context("spawn").Process, (given.storage, budget)
    workers = [start(target=work, args=args) for _ in range(given.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if lost := sum(worker.exitcode != 0 for worker in workers):
        told = f"{lost} of {len(workers)} workers ended early"
        raise PipelineError(f"{told}; run the same again to go on")
    dataset = read_config(DownloadSettings, CONFIGS / "download.yaml").dataset
    write(FOLDER, studies, f"{dataset}, {people.images.shape[1]} pixels")


def work(storage: str, budget: float) -> None:
    """A worker process: trials of both sides until each has used `budget` seconds of a core."""
    end_with_parent()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    people = validation_people()
    for side in SIDES:
        run(side, open_study(side, storage), people, budget)


def run(side: Side, study: Study, people: Faces, budget: float) -> None:
    """Trials until the budget is spent but for its last part, which is for the finals."""
    searched = budget * (1 - FINALS)

    def train(trial: Trial) -> float:
        return objective(trial, side, people, searched)

    while spent(study) < searched or study.get_trials(states=[TrialState.WAITING]):
        study.optimize(train, 1, gc_after_trial=True)
    asked = {(t.user_attrs.get("final_of"), t.user_attrs.get("seed")) for t in study.trials}
    for trial in promising(study)[:FINALISTS]:
        for seed in FINAL_SEEDS:
            if (trial.number, seed) not in asked:
                final = {"final_of": trial.number, "seed": seed}
                study.enqueue_trial(trial.params, user_attrs=final)
    while study.get_trials(states=[TrialState.WAITING]):
        study.optimize(train, 1, gc_after_trial=True)


def objective(trial: Trial, side: Side, people: Faces, budget: float) -> float:
    """The validation error of one training. One that stands badly, and one that the budget ends, is
    pruned, but no first trial and no final."""
    size = people.images.shape[1]
    own = side.suggest(trial) | ({} if size == SIZE else {"size": size})
    settings = ModelSettings.model_validate(own)
    trial.set_user_attr("settings", settings.model_dump(exclude_none=True))
    trial.set_user_attr("seconds", 0.0)
    to_the_end = not {"first", "final_of"}.isdisjoint(trial.user_attrs)
    seed = trial.user_attrs.get("seed", 0)
    trainer = Trainer(Training(settings=settings, seed=seed, faces="validation"), people)
    error, started = float("inf"), time.process_time()
    while trainer.epoch < settings.epochs:
        try:
            trainer.run_epoch()
        except Diverged as diverged:
            trial.set_user_attr("diverged", str(diverged))
            raise optuna.TrialPruned from None
        error = next(p.value for p in reversed(trainer.curve) if p.loss == "averaged_error")
        trial.set_user_attr("seconds", time.process_time() - started)
        trial.report(error, trainer.epoch)
        badly = not settings.stacked_epochs and trial.should_prune()
        if not to_the_end and (badly or spent(trial.study) > budget):
            raise optuna.TrialPruned
    return error


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


def open_study(side: Side, storage: str) -> Study:
    """A side's study: where it was left, if faces and the code that trains are the same."""
    state = hashlib.sha256(f"{faces.load().hash} {store.code()}".encode()).hexdigest()[:12]
    waiting = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else None
    try:
        if storage.startswith("sqlite:///"):
            Path(storage.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        opened = optuna.storages.RDBStorage(
            storage,
            engine_kwargs=waiting,
            heartbeat_interval=HEARTBEAT,
            grace_period=3 * HEARTBEAT,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
        )
        return optuna.create_study(
            study_name=f"{side.name}, {EPOCHS} epochs, {state}",
            storage=opened,
            sampler=optuna.samplers.TPESampler(multivariate=True, group=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=WARMUP),
            load_if_exists=True,
        )
    except Exception as error:  # of whatever driver the storage has
        raise PipelineError(
            f"the storage {storage} cannot be opened ({type(error).__name__}: {error}); a file is "
            f"{STORAGE}, a server postgresql+psycopg://USER@HOST/DATABASE"
        ) from None


def spent(study: Study) -> float:
    """The seconds of a core that a study's trials took, those lost and those running among them."""
    trials = study.get_trials(deepcopy=False)
    return sum(float(trial.user_attrs.get("seconds", 0.0)) for trial in trials)


def promising(study: Study) -> list[FrozenTrial]:
    """Finished trials that are no finals, of the lowest error first."""
    trials = study.get_trials(states=[TrialState.COMPLETE])
    own = (trial for trial in trials if "final_of" not in trial.user_attrs)
    return sorted(own, key=attrgetter("value"))


def winner(study: Study) -> FrozenTrial | None:
    """A final of the finalist of the lowest mean error, of those with as many seeds as any has."""
    finals: dict[int, dict[int, FrozenTrial]] = {}  # by seed: two workers may have asked for one
    for trial in study.get_trials(states=[TrialState.COMPLETE]):
        if "final_of" in (told := trial.user_attrs):
            finals.setdefault(told["final_of"], {})[told["seed"]] = trial
    most = max(map(len, finals.values()), default=0)
    whole = [[*own.values()] for own in finals.values() if len(own) == most]
    return min(whole, key=lambda own: fmean(trial.value for trial in own))[0] if whole else None


def name_of(settings: dict[str, Any]) -> str:
    """What a winner is called: what it is."""
    reach = settings.get("reach", 1)
    parts = [settings["training"], f"reach_{reach}" if reach > 1 else ""]
    parts += ["then_stacked" if settings["stacked_epochs"] else "", "searched"]
    return "_".join(filter(None, parts))


def write(folder: Path, studies: Sequence[Study], dataset: str) -> None:
    """Write trials.csv, and for each side its winner, SIDE.yaml."""
    with atomic_folder(folder) as unfinished:
        columns = ("number", "value", "state", "user_attrs", "params")
        sides = {study.study_name.partition(",")[0]: study for study in studies}
        tables = [
            study.trials_dataframe(columns).assign(dataset=dataset, side=side)
            for side, study in sides.items()
        ]
        table = pd.concat(tables).set_index(["dataset", "side", "number"])
        table = table.drop(columns="user_attrs_settings", errors="ignore")
        table.to_csv(unfinished / "trials.csv", lineterminator="\n", float_format="%.6g")
        for side, study in sides.items():
            if (best := winner(study)) is None:
                print(f"{side}: no finalist of {len(study.trials)} trials was trained to its end")
                continue
            values = best.user_attrs["settings"] | {"seeds": 5, "released_seeds": 0}
            values = {k: v for k, v in values.items() if k not in ("implementation", "size")}
            name = name_of(values)
            flow = yaml.safe_dump(values, default_flow_style=True, width=10**6, sort_keys=False)
            word = shlex.quote(f"++variants.{name}={flow.strip()}")  # in Hydra's grammar
            text = "# An entry of `variants` in params.yaml, or without editing it:\n"
            text += f"# dvc exp run --set-param {word}\n"
            text += yaml.safe_dump({name: values}, sort_keys=False)
            (unfinished / f"{side}.yaml").write_text(text, encoding="utf-8")
            print(f"{side}: {name}, trial {best.user_attrs['final_of']} of {len(study.trials)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
