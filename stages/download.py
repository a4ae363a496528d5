"""configs/download.yaml -> data/<dataset>.tar, the same bytes whatever the source.

With LFW_ARCHIVE=/path/to/archive-or-folder LFW comes from there, not from the network.
"""

import os
import shutil
import sys
from pathlib import Path

from stages.common.entry import entry_point
from stages.common.settings import CONFIGS, DownloadSettings, read_config
from stages.data import lfw
from stages.data.archives import TOTAL_BYTES
from stages.data.pictures import PARTIAL, store, tell_skipped, write_tar
from stages.data.sources.own import own_pictures
from stages.data.sources.synthetic import drawn_faces


@entry_point
def main() -> None:
    settings = read_config(DownloadSettings, CONFIGS / "download.yaml")
    path = Path("data") / f"{settings.dataset}.tar"
    if settings.dataset == "synthetic":
        pictures = store(drawn_faces.draw(settings.count), TOTAL_BYTES)
    elif settings.dataset == "own":
        pictures, skipped = own_pictures.read(Path(settings.pictures))
        if skipped:
            print(tell_skipped(skipped))
    else:
        dataset = lfw.dataset(settings.dataset)
        archive = os.environ.get("LFW_ARCHIVE")
        if not archive and lfw.holds(path, dataset):  # dvc reran the stage for another reason
            print(f"{path} is here already, with the right content")
            return
        pictures = lfw.obtain(dataset, archive)
    write_tar(pictures, path)
    shutil.rmtree(PARTIAL, ignore_errors=True)
    print(f"{settings.dataset}: {len(pictures):,} pictures")


if __name__ == "__main__":
    main(*sys.argv[1:])
