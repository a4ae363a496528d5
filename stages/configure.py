"""params.yaml -> configs/: the settings of download, preprocess and every variant, resolved.

A stage depends on its own file alone, so what reruns follows the effective settings; and all of
params.yaml is checked here, before anything runs. Beside them, what is measured, without how it is
named: a label reevaluates nothing.

`python -m stages.configure FILE` first writes the settings of FILE, such as settings/demo.yaml,
into params.yaml, whose comments stay. FILE holds what is to change, laid out as params.yaml. What
its section `train` sets holds for every variant, also one that had a value of its own. Where its
`variants` is a list, those alone stay; an item is a name, or a name with what it changes.
"""

import json
import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.files import atomic_folder, write_text
from stages.common.settings import (
    CONFIGS,
    PUBLISH,
    VARIANTS,
    Checked,
    Params,
    read_params,
    resolve,
)
from stages.common.yaml_files import parse_yaml, read_yaml, to_yaml
from stages.measure.measures import computed

PARAMS = Path("params.yaml")


@entry_point
def main(file: str = "") -> None:
    if file:
        take(read_yaml(file), file)
    params = read_params(PARAMS)
    with atomic_folder(VARIANTS) as folder:
        for name, variant in params.variants.items():
            write(variant, folder / f"{name}.yaml")
    write(params.download.effective(), CONFIGS / "download.yaml")
    write(params.preprocess, CONFIGS / "preprocess.yaml")
    write_text(CONFIGS / "measures.yaml", to_yaml(computed()))
    publish = [name for name in params.publish if name in params.variants]
    write_text(PUBLISH, to_yaml(publish))
    if lacking := sorted({*params.publish} - {*publish}):
        print(f"publish: variants has no {', '.join(lacking)}; no copy is kept")
    print(plan(params))


def write(settings: Checked, path: Path) -> None:
    write_text(path, to_yaml(settings.model_dump(exclude_none=True)))


def take(changes: object, file: str) -> None:
    """Write the settings of a file into params.yaml, laid out as dvc does.

    Raises PipelineError, and leaves params.yaml as it was, where the result is not valid.
    """
    from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

    read_params(PARAMS)
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
        for own in variants.values():
            merge(own, {key: changes["train"][key] for key in own if key in changes["train"]})
    merge(params, changes)
    text = dumps_yaml(params)
    resolve(parse_yaml(text.encode(), PARAMS), f"{PARAMS} with {file}")
    write_text(PARAMS, text)


def merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    """Put `changes` into `values`, mappings key by key."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            merge(values[key], value)
        else:
            values[key] = deepcopy(value)  # one object at two places would be written as an alias


def plan(params: Params) -> str:
    """How much there is to train, and how much of it was trained before."""
    trainings = {
        _key(settings.model_dump(), seed)
        for variant in params.variants.values()
        for implementation, settings in variant.models().items()
        for seed in variant.seeds_of(implementation)
    }
    kept = set()
    for path in Path(os.environ.get("DVC_ROOT", "."), ".dvc/trainings").glob("*/epochs*/curve.csv"):
        try:
            found = json.loads((path.parents[1] / "identity.json").read_text(encoding="utf-8"))
            epochs = int(path.parent.name.removeprefix("epochs"))
            kept.add(_key(found["settings"] | {"epochs": epochs}, found["seed"]))
        except (OSError, ValueError, KeyError, TypeError):  # `train_variant` says more
            continue
    return (
        f"{len(params.variants)} variants, {len(trainings)} different trainings; "
        f"{len(trainings & kept)} of them are kept, and repeated only for other faces or other code"
    )


def _key(settings: dict[str, Any], seed: int) -> str:
    given = {name: value for name, value in settings.items() if value is not None}
    return json.dumps([given, seed], sort_keys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
