"""params.yaml -> configs/: the settings of download, preprocess and every variant, resolved.

A stage depends on its own file alone, so what reruns follows the effective settings; and all of
params.yaml is checked here, before anything runs.
"""

import shutil
import sys
from pathlib import Path

import yaml

from stages.common.entry import entry_point
from stages.common.settings import CONFIGS, VARIANTS, Checked, read_params


@entry_point
def main() -> None:
    params = read_params()
    shutil.rmtree(CONFIGS, ignore_errors=True)
    VARIANTS.mkdir(parents=True)
    write(params.download.effective(), CONFIGS / "download.yaml")
    write(params.preprocess, CONFIGS / "preprocess.yaml")
    for name, variant in params.variants.items():
        write(variant, VARIANTS / f"{name}.yaml")
    print(f"{len(params.variants)} variants configured")


def write(settings: Checked, path: Path) -> None:
    path.write_text(yaml.safe_dump(settings.model_dump(exclude_none=True)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
