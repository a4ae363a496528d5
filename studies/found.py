"""What a hyperparameter search found: a table, figures, and a variant that `dvc exp run` takes."""

import csv
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from matplotlib import pyplot as plt
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from stages.common.files import atomic_folder, number

plt.switch_backend("Agg")
EPOCHS = 10  # of the variant
SEEDS = [0, 1, 2, 3, 4]
COLUMNS = ("search", "trial", "state", "epochs", "error", "high_frequency_ratio", "grid_ratio")


def winner(study: Study) -> FrozenTrial | None:
    """The finished trial with the lowest error among those that meet the constraints."""
    finished = [
        trial
        for trial in study.get_trials(states=[TrialState.COMPLETE])
        if meets_constraints(trial)
    ]
    return min(finished, key=lambda trial: trial.value or 0.0, default=None)


def meets_constraints(trial: FrozenTrial) -> bool:
    return all(value <= 0 for value in trial.constraints.values())


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
            best = winner(study)
            if best is None:
                print(f"{name}: no trial of {len(study.trials)} ended and met the constraints")
                continue
            values = variant(best, searched_epochs)
            command = f"dvc exp run --set-param {shlex.quote(set_param(name, values))}"
            entry = yaml.safe_dump({name: values}, sort_keys=False)
            (unfinished / f"{name}.yaml").write_text(
                f"# An entry of `variants` in params.yaml, or without editing it:\n# {command}\n"
                f"{entry}",
                encoding="utf-8",
            )
            _draw(study, unfinished)
            print(f"{name}: trial {best.number} of {len(study.trials)}, error {best.value:.1f}")


def _write_table(path: Path, studies: Sequence[Study]) -> None:
    trials = [(_name(study), trial) for study in studies for trial in study.trials]
    params = sorted({name for _, trial in trials for name in trial.params})
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*COLUMNS, "meets_constraints", "seconds", *params])
        for name, trial in trials:
            told = trial.user_attrs
            table.writerow(
                [
                    name,
                    trial.number,
                    trial.state.name.lower(),
                    max(trial.intermediate_values, default=0),
                    *(_text(told.get(column)) for column in COLUMNS[4:]),
                    "" if "error" not in told else str(meets_constraints(trial)).lower(),
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
