"""params.yaml -> configs/<variant>.yaml: every model's settings, checked and resolved.

A model's training depends on its own file alone, so what is retrained follows the effective
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
    models = resolve(read_params())
    shutil.rmtree(CONFIGS, ignore_errors=True)
    CONFIGS.mkdir()
    for model in models:
        text = yaml.safe_dump(model.model_dump(), sort_keys=True)
        (CONFIGS / f"{model.name}.yaml").write_text(text)
    print(f"{len(models)} models configured")


if __name__ == "__main__":
    main()
