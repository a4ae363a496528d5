"""data/<dataset>.tar -> data/faces.npy (crops) and data/faces.csv (who, and which split)."""

import sys
from pathlib import Path

from stages.common.entry import entry_point
from stages.common.settings import CONFIGS, DownloadSettings, PreprocessSettings, read_config
from stages.data import crops
from stages.data.pictures import read_tar, tell_skipped
from stages.data.preparation import prepare


@entry_point
def main() -> None:
    dataset = read_config(DownloadSettings, CONFIGS / "download.yaml").dataset
    settings = read_config(PreprocessSettings, CONFIGS / "preprocess.yaml")
    pictures = read_tar(Path("data") / f"{dataset}.tar")
    # A user's pictures have any size, and files among them may be no pictures.
    yours = dataset == "own"
    crop = crops.fit if yours else crops.centre_crop
    data, size = Path("data"), settings.size
    skipped = prepare(pictures, crop, settings.held_out, data, size=size, skip=yours)
    if skipped:
        print(tell_skipped(skipped))
    print(f"{len(pictures) - len(skipped):,} faces")


if __name__ == "__main__":
    main(*sys.argv[1:])
