"""params.yaml -> configs/: the settings of download, preprocess and every variant, resolved.

A stage depends on its own file alone, so what reruns follows the effective settings; and all of
params.yaml is checked here, before anything runs. Beside them, what is measured, without how it is
named: a label reevaluates nothing.
"""

import sys
from pathlib import Path

import yaml

from stages.common.entry import entry_point
from stages.common.files import atomic_folder, write_text
from stages.common.settings import CONFIGS, VARIANTS, Checked, read_params
from stages.measure.measures import computed


@entry_point
def main() -> None:
    params = read_params()
    with atomic_folder(VARIANTS) as folder:
        for name, variant in params.variants.items():
            write(variant, folder / f"{name}.yaml")
    write(params.download.effective(), CONFIGS / "download.yaml")
    write(params.preprocess, CONFIGS / "preprocess.yaml")
    write_text(CONFIGS / "measures.yaml", yaml.safe_dump(computed()))
    print(f"{len(params.variants)} variants configured")


def write(settings: Checked, path: Path) -> None:
    write_text(path, yaml.safe_dump(settings.model_dump(exclude_none=True)))


if __name__ == "__main__":
    main(*sys.argv[1:])
