"""What a hyperparameter search found: a table, figures, and a variant that `dvc exp run` takes."""

import csv
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from matplotlib import pyplot as plt
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from stages.common.files import atomic_folder, number

plt.switch_backend("Agg")
EPOCHS = 10  # of the variant
SEEDS = [0, 1, 2, 3, 4]
MEASURED = ("error", "high_frequency_ratio", "grid_ratio")


def ranked(study: Study, seeds: int) -> list[FrozenTrial]:
    """Finished trials with at least so many seeds by their mean cost, the lowest first.

    The trial of the first seed stands for all.
    """
    groups: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(states=[TrialState.COMPLETE]):
        groups.setdefault(trial.user_attrs.get("confirms", trial.number), []).append(trial)
    means = {
        number: float(np.mean([cost(trial) for trial in own]))
        for number, own in groups.items()
        if len({_seed(trial) for trial in own}) >= seeds
    }
    return [groups[number][0] for number in sorted(means, key=means.__getitem__)]


def promising(study: Study) -> list[FrozenTrial]:
    """Finished trials of the first seed, of the lowest cost first."""
    trials = study.get_trials(states=[TrialState.COMPLETE])
    return sorted((one for one in trials if "confirms" not in one.user_attrs), key=cost)


def winner(study: Study) -> FrozenTrial | None:
    """The first of `ranked` with as many seeds as any has."""
    most = max((_seed(trial) for trial in study.trials), default=0) + 1
    for seeds in range(most, 0, -1):
        if trials := ranked(study, seeds):
            return trials[0]
    return None


def cost(trial: FrozenTrial) -> float:
    """What the pruner was told last: the error, raised by what is missed of clarity."""
    return trial.intermediate_values[max(trial.intermediate_values)]


def _seed(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("seed", 0))


def variant(trial: FrozenTrial, searched_epochs: int) -> dict[str, Any]:
    """A trial's settings as an entry of `variants` in params.yaml, with ten epochs."""
    found = dict(trial.user_attrs["settings"])
    del found["implementation"]
    found["stacked_epochs"] = round(found["stacked_epochs"] * EPOCHS / searched_epochs)
    return found | {"epochs": EPOCHS, "seeds": SEEDS, "released_seeds": []}


def set_param(name: str, values: dict[str, Any]) -> str:
    """The word after --set-param that adds a variant or replaces it, in Hydra's grammar."""
    text = yaml.safe_dump(values, default_flow_style=True, width=10**6, sort_keys=False).strip()
    return f"++variants.{name}={text}"


def write(folder: Path, studies: Sequence[Study], searched_epochs: int) -> None:
    """Write trials.csv, and for each study what won (NAME.yaml) and two figures."""
    with atomic_folder(folder) as unfinished:
        _write_table(unfinished / "trials.csv", studies)
        for study in studies:
            name = _name(study)
            if study.get_trials(states=[TrialState.COMPLETE]):
                _draw(study, unfinished)
            best = winner(study)
            if best is None:
                print(f"{name}: no trial of {len(study.trials)} ended")
                continue
            values = variant(best, searched_epochs)
            command = f"dvc exp run --set-param {shlex.quote(set_param(name, values))}"
            entry = yaml.safe_dump({name: values}, sort_keys=False)
            (unfinished / f"{name}.yaml").write_text(
                f"# An entry of `variants` in params.yaml, or without editing it:\n# {command}\n"
                f"{entry}",
                encoding="utf-8",
            )
            print(f"{name}: trial {best.number} of {len(study.trials)}, in {name}.yaml")


def _write_table(path: Path, studies: Sequence[Study]) -> None:
    trials = [(_name(study), trial) for study in studies for trial in study.trials]
    params = sorted({name for _, trial in trials for name in trial.params})
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        columns = ["search", "trial", "seed", "state", "epochs", *MEASURED]
        table.writerow([*columns, "clear", "seconds", *params])
        for name, trial in trials:
            told = trial.user_attrs
            clear = all(missed <= 0 for missed in trial.constraints.values())
            table.writerow(
                [
                    name,
                    trial.number,
                    _seed(trial),
                    trial.state.name.lower(),
                    max(trial.intermediate_values, default=0),
                    *(_text(told.get(column)) for column in MEASURED),
                    "" if "error" not in told else str(clear).lower(),
                    _text(told.get("seconds")),
                    *(_text(trial.params.get(key)) for key in params),
                ]
            )


def _draw(study: Study, folder: Path) -> None:
    plots = optuna.visualization.matplotlib
    axes = {"history": plots.plot_optimization_history(study)}
    values = {trial.value for trial in study.get_trials(states=[TrialState.COMPLETE])}
    if len(values) > 1:
        axes["importance"] = plots.plot_param_importances(study)
    for name, drawn in axes.items():
        drawn.set_title(f"{_name(study)}: {name}")
        drawn.figure.savefig(  # type: ignore[union-attr]  # no part of another figure
            folder / f"{name}_{_name(study)}.png", dpi=100, bbox_inches="tight"
        )
    plt.close("all")


def _name(study: Study) -> str:
    return study.study_name.partition(",")[0]


def _text(value: object) -> object:
    return "" if value is None else number(value) if isinstance(value, float) else value
