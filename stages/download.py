"""params.yaml: download -> data/<dataset>.tar, the same bytes whatever the source.

With LFW_ARCHIVE=/path/to/archive-or-folder the pictures come from there, not from the network.
"""

import os
import shutil
from pathlib import Path

from stages.core import archives, datasets, synthetic
from stages.core.errors import exits_cleanly
from stages.core.settings import read_params


@exits_cleanly
def main() -> None:
    settings = read_params().download
    if settings.dataset == "synthetic":
        pictures = synthetic.pictures(settings.count)
    else:
        dataset = datasets.DATASETS[settings.dataset]
        pictures = datasets.obtain(dataset, archive=os.environ.get("LFW_ARCHIVE"))
    archives.write_tar(pictures, Path("data") / f"{settings.dataset}.tar")
    shutil.rmtree(archives.PARTIAL)
    print(f"{settings.dataset}: {len(pictures):,} pictures")


if __name__ == "__main__":
    main()
