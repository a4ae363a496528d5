"""The held-out inputs, noise, the mean training picture, measured once -> reports/references/."""

import sys

from stages.common import memory
from stages.common.entry import entry_point
from stages.common.settings import CONFIGS, DownloadSettings, read_config
from stages.data import faces
from stages.measure import records
from stages.measure.compute import measure_references, measured_faces, threads


@entry_point
def main() -> None:
    memory.keep_freed()
    dataset = read_config(DownloadSettings, CONFIGS / "download.yaml").dataset
    prepared = faces.load()
    test, train = measured_faces(prepared)
    with threads() as pool:
        references = measure_references(pool, test, train)
    images = {split: len(prepared.rows(split)) for split in ("train", "test")}
    people = len({*prepared.people[prepared.rows("test")]})
    records.write_references(references, dataset, prepared.hash, images, people=people)
    print(references.measures.to_string(float_format="{:.3g}".format))


if __name__ == "__main__":
    main(*sys.argv[1:])
