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


def promising(study: Study) -> list[FrozenTrial]:
    """Finished trials that are no finals, of the lowest cost first."""
    trials = study.get_trials(states=[TrialState.COMPLETE])
    return sorted((one for one in trials if "final_of" not in one.user_attrs), key=cost)


def winner(study: Study) -> FrozenTrial | None:
    """A final of the finalist of the lowest mean cost, of those with as many seeds as any has."""
    finals: dict[int, dict[int, FrozenTrial]] = {}  # by seed: two workers may have asked for one
    for trial in study.get_trials(states=[TrialState.COMPLETE]):
        told = trial.user_attrs
        if "final_of" in told:
            finals.setdefault(told["final_of"], {})[told["seed"]] = trial
    most = max((len(own) for own in finals.values()), default=0)
    means = {
        number: float(np.mean([cost(trial) for trial in own.values()]))
        for number, own in finals.items()
        if len(own) == most
    }
    if not means:
        return None
    return next(iter(finals[min(means, key=means.__getitem__)].values()))


def cost(trial: FrozenTrial) -> float:
    """What the pruner was told last: the error, raised by what is missed of clarity."""
    return trial.intermediate_values[max(trial.intermediate_values)]


def variant(final: FrozenTrial) -> dict[str, Any]:
    """A final's settings as an entry of `variants` in params.yaml."""
    found = dict(final.user_attrs["settings"])
    del found["implementation"]
    return found | {"seeds": SEEDS, "released_seeds": []}


def set_param(name: str, values: dict[str, Any]) -> str:
    """The word after --set-param that adds a variant or replaces it, in Hydra's grammar."""
    text = yaml.safe_dump(values, default_flow_style=True, width=10**6, sort_keys=False).strip()
    return f"++variants.{name}={text}"


def write(folder: Path, studies: Sequence[Study], dataset: str) -> None:
    """Write trials.csv, and for each study what won (NAME.yaml) and two figures."""
    with atomic_folder(folder) as unfinished:
        _write_table(unfinished / "trials.csv", studies, dataset)
        for study in studies:
            name = _name(study)
            if study.get_trials(states=[TrialState.COMPLETE]):
                _draw(study, unfinished)
            best = winner(study)
            if best is None:
                print(f"{name}: no finalist of {len(study.trials)} trials was trained to its end")
                continue
            values = variant(best)
            command = f"dvc exp run --set-param {shlex.quote(set_param(name, values))}"
            entry = yaml.safe_dump({name: values}, sort_keys=False)
            (unfinished / f"{name}.yaml").write_text(
                f"# An entry of `variants` in params.yaml, or without editing it:\n# {command}\n"
                f"{entry}",
                encoding="utf-8",
            )
            number = best.user_attrs["final_of"]
            print(f"{name}: trial {number} of {len(study.trials)}, in {name}.yaml")


def _write_table(path: Path, studies: Sequence[Study], dataset: str) -> None:
    trials = [(_name(study), trial) for study in studies for trial in study.trials]
    params = sorted({name for _, trial in trials for name in trial.params})
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        columns = ["dataset", "search", "trial", "final_of", "seed", "state", "epochs", *MEASURED]
        table.writerow([*columns, "clear", "seconds", *params])
        for name, trial in trials:
            told = trial.user_attrs
            missed = trial.constraints.values()
            table.writerow(
                [
                    dataset,
                    name,
                    trial.number,
                    told.get("final_of", ""),
                    told.get("seed", 0),
                    trial.state.name.lower(),
                    max(trial.intermediate_values, default=0),
                    *(_text(told.get(column)) for column in MEASURED),
                    str(max(missed) <= 0).lower() if missed else "",
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
