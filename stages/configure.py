"""params.yaml -> configs/: the settings of download, preprocess and every variant, resolved.

Checks all of params.yaml before anything runs. A stage depends on its own file in configs/ alone,
so that it runs again only where its settings change. configs/measures.yaml has no labels, so that a
new label evaluates nothing again.

`python -m stages.configure FILE` first writes the settings of FILE, such as settings/demo.yaml,
into params.yaml, and keeps its comments. FILE is laid out as params.yaml and holds the changes
alone. Its section `train` replaces the values of variants, too. Where its `variants` is a list,
other variants are removed; an item is a name, or a name with its changes.
"""

import csv
import json
import math
import sys
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from stages.common import settings
from stages.common.cores import cores
from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.files import atomic_folder, write_text
from stages.common.yaml_files import parse_yaml, read_yaml, to_yaml
from stages.measure.measures import computed

PARAMS = Path("params.yaml")
PACE = Path("reports/studies/pace.csv")


@entry_point
def main(file: str = "") -> None:
    if file:
        take(read_yaml(file), file)
    params = settings.read_params(PARAMS)
    with atomic_folder(settings.VARIANTS) as folder:
        for name, variant in params.variants.items():
            write(variant, folder / f"{name}.yaml")
    write(params.download.effective(), settings.CONFIGS / "download.yaml")
    write(params.preprocess, settings.CONFIGS / "preprocess.yaml")
    write_text(settings.CONFIGS / "measures.yaml", to_yaml(computed()))
    publish = [name for name in params.publish if name in params.variants]
    write_text(settings.PUBLISH, to_yaml(publish))
    if lacking := sorted({*params.publish} - {*publish}):
        print(f"publish: variants has no {', '.join(lacking)}; no copy is kept")
    print(plan(params))


def write(values: settings.Checked, path: Path) -> None:
    write_text(path, to_yaml(values.model_dump(exclude_none=True)))


def take(changes: object, file: str) -> None:
    """Write the settings of a file into params.yaml, laid out as dvc does. Raises PipelineError,
    and leaves params.yaml as it was, where the result is not valid."""
    from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

    settings.read_params(PARAMS)
    params = parse_yaml_for_update(PARAMS.read_text(encoding="utf-8"), PARAMS)
    if not isinstance(changes, dict):
        raise PipelineError(f"{file} should be a mapping of settings, as params.yaml is")
    variants, chosen = params["variants"], changes.get("variants")
    if isinstance(chosen, list):
        entries = [entry if isinstance(entry, dict) else {str(entry): {}} for entry in chosen]
        changes["variants"] = dict(item for entry in entries for item in entry.items())
        if lacking := [name for name in changes["variants"] if name not in variants]:
            raise PipelineError(f"{file}: variants has no {', '.join(map(str, lacking))}")
        for name in [name for name in variants if name not in changes["variants"]]:
            del variants[name]
    if isinstance(changes.get("train"), dict):
        for entry in variants.values():
            merge(entry, {key: changes["train"][key] for key in entry if key in changes["train"]})
    merge(params, changes)
    text = dumps_yaml(params)
    settings.resolve(parse_yaml(text.encode(), PARAMS), f"{PARAMS} with {file}")
    write_text(PARAMS, text)


def merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    """Put `changes` into `values`, mappings key by key."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            merge(values[key], value)
        else:
            values[key] = deepcopy(value)  # one object at two places would be written as an alias


def plan(params: settings.Params) -> str:
    """How much there is to train, how much of it was trained before, and how long the rest takes.

    The time is that of the paper's pictures at their size, on a processor like that of PACE.
    """
    epoch, processor = dict[str, float](), ""
    with suppress(OSError, ValueError, KeyError, TypeError, csv.Error):  # without it, no time
        for row in csv.DictReader(PACE.read_text(encoding="utf-8").splitlines()):
            epoch[row["variant"]], processor = float(row["epoch_seconds"]), row["processor"]
    seconds = {
        _key(model.model_dump(exclude_none=True), seed): model.epochs * epoch.get(name, math.nan)
        for name, variant in params.variants.items()
        for implementation, model in variant.models().items()
        for seed in variant.seeds_of(implementation)
    }
    kept = set()
    for path in settings.kept_trainings().glob("*/epochs*/curve.csv"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # `train_variant` says more
            identity = json.loads((path.parents[1] / "identity.json").read_text(encoding="utf-8"))
            epochs = int(path.parent.name.removeprefix("epochs"))
            kept.add(_key(identity["settings"] | {"epochs": epochs}, identity["seed"]))
    missing = sum(value for key, value in seconds.items() if key not in kept)
    text = f"{len(params.variants)} variants, {len(seconds)} different trainings; "
    text += f"{len(kept & {*seconds})} of them are kept, and repeated only for other faces or "
    text += "other code"
    as_the_paper = params.download.dataset.startswith("lfw") and params.preprocess.size == 128
    if as_the_paper and missing > 0:
        text += f"; the others take about {missing / cores() / 3600:.1f} hours on {cores()} "
        text += f"core(s) of {processor}"
    return text


def _key(model: dict[str, Any], seed: int) -> str:
    return json.dumps([model, seed], sort_keys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
