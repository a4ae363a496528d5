"""models/<variant> -> reports/models/<variant>.safetensors, a copy for git in half precision.

`python -m stages.publish VARIANT` takes the averaged weights of the first seed as described.
"""

import sys

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.files import atomic


@entry_point
def main(variant: str) -> None:
    from stages.model import checkpoint, store

    paths = store.seeds(variant)
    if not paths:
        raise PipelineError(
            f"models/{variant} has no trained model; run `dvc repro train-variant@{variant}`"
        )
    copy = store.copy_of(variant)
    with atomic(copy) as unfinished:
        checkpoint.copy_in_half(paths[0], unfinished)
    print(f"{copy}: {copy.stat().st_size:,} bytes of {paths[0]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
