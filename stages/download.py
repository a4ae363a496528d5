"""params.yaml: download -> data/<dataset>.tar, the same bytes whatever the source.

With LFW_ARCHIVE=/path/to/archive-or-folder the pictures come from there, not from the network.
"""

import os
import shutil
from pathlib import Path

from stages.data import archives
from stages.data import sources
from stages.data import drawn_faces
from stages.common.errors import exits_cleanly
from stages.common.settings import read_params


@exits_cleanly
def main() -> None:
    settings = read_params().download
    if settings.dataset == "synthetic":
        pictures = drawn_faces.pictures(settings.count)
    else:
        dataset = sources.DATASETS[settings.dataset]
        pictures = sources.obtain(dataset, archive=os.environ.get("LFW_ARCHIVE"))
    archives.write_tar(pictures, Path("data") / f"{settings.dataset}.tar")
    shutil.rmtree(archives.PARTIAL)
    print(f"{settings.dataset}: {len(pictures):,} pictures")


if __name__ == "__main__":
    main()
