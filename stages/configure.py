"""params.yaml -> configs/<variant>.yaml: the settings of every variant's models, resolved.

A variant's training depends on its own file alone, so what is retrained follows the effective
settings; and a bad value is found here, before any hour of training.
"""

import shutil
from pathlib import Path

import yaml

from stages.core.errors import exits_cleanly
from stages.core.settings import read_params, resolve

CONFIGS = Path("configs")


@exits_cleanly
def main() -> None:
    variants = resolve(read_params())
    shutil.rmtree(CONFIGS, ignore_errors=True)
    CONFIGS.mkdir()
    for name, models in variants.items():
        text = yaml.safe_dump([model.model_dump() for model in models], sort_keys=True)
        (CONFIGS / f"{name}.yaml").write_text(text)
    print(f"{len(variants)} variants configured")


if __name__ == "__main__":
    main()
