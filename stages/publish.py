"""models/ -> reports/models/<variant>.safetensors, copies for git in half precision.

They are the averaged weights of the first seed as described, of each variant that `publish` in
params.yaml lists. Keeps a copy whose model is not here; removes one whose variant is not listed.
"""

import shutil
import sys

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.files import atomic_folder
from stages.common.settings import PUBLISH
from stages.common.yaml_files import read_yaml


@entry_point
def main() -> None:
    from stages.model import checkpoint, store

    variants = read_yaml(PUBLISH)
    if not isinstance(variants, list):
        raise PipelineError(f"{PUBLISH} should be a list; run `dvc repro configure`")
    with atomic_folder(store.COPIES) as folder:
        for variant in variants:
            copy = store.copy_of(variant)
            if paths := store.seeds(variant):
                checkpoint.copy_in_half(paths[0], folder / copy.name)
                print(f"{copy}: {(folder / copy.name).stat().st_size:,} bytes of {paths[0]}")
            elif copy.exists():
                shutil.copy(copy, folder)
            else:
                print(f"{copy}: not there; `dvc repro train-variant@{variant}` trains it")


if __name__ == "__main__":
    main(*sys.argv[1:])
