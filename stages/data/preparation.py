"""Pictures -> faces.npy and faces.csv, a batch of pictures in memory at a time."""

import csv
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from stages.common.errors import PipelineError
from stages.common.files import atomic_set
from stages.data.crops import Crop
from stages.data.faces import SIZE
from stages.data.people import differ_in_case, held_out_people, person_of
from stages.data.pictures import Skipped, because_of

BATCH = 64  # pictures decoded side by side, 3 MB of crops of 128 pixels


def prepare(
    pictures: Mapping[str, bytes],
    crop: Crop,
    held_out: float,
    folder: Path,
    *,
    size: int = SIZE,
    skip: bool = False,
) -> Skipped:
    """Write folder/faces.npy, uint8 (N, size, size, 3) RGB, and faces.csv: path,person,split.

    Rows of both are in bytewise order of paths. With `skip`, leaves out pictures that cannot be
    cropped, and returns them. Raises PipelineError for such a picture without `skip`, and where
    `held_out` leaves a split empty. Then both files stay as they were.
    """
    with atomic_set(folder / "faces.npy", folder / "faces.csv") as (faces, table):
        # Written, not mapped: on a full disk a mapping ends in a bus error, without a word.
        with faces.open("wb") as file:
            used, skipped = _write_crops(pictures, crop, size, file, skip)
        held = held_out_people(used, held_out)
        people = set(map(person_of, used))
        if not held or held == people:
            raise PipelineError(
                f"held_out {held_out} puts {len(held)} of {len(people)} people into the test "
                f"split; use a value nearer to 0.5, or more pictures{because_of(skipped)}"
            )
        if alike := differ_in_case(people):
            print(f"different people, though only the case of letters differs: {', '.join(alike)}")
        with table.open("w", newline="", encoding="utf-8") as file_:
            rows = csv.writer(file_, lineterminator="\n")
            rows.writerow(("path", "person", "split"))
            for name in used:
                person = person_of(name)
                rows.writerow((name, person, "test" if person in held else "train"))
    return skipped


def _write_crops(
    pictures: Mapping[str, bytes], crop: Crop, size: int, file: IO[bytes], skip: bool
) -> tuple[dict[str, bytes], Skipped]:
    """The names of those written, in order, with a digest of each, and what was left out."""

    def attempt(name: str) -> tuple[bytes, bytes] | str:
        picture = pictures[name]
        try:
            return crop(picture, size).tobytes(), hashlib.sha256(picture).digest()
        except PipelineError as error:
            return str(error)

    names, used, skipped = sorted(pictures), dict[str, bytes](), Skipped()
    _write_header(file, len(names), size)
    with (
        ThreadPoolExecutor() as pool,  # Pillow decodes outside Python's lock
        tqdm(desc="decoding", total=len(names), disable=None) as bar,
    ):
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            for name, result in zip(batch, pool.map(attempt, batch), strict=True):
                if not isinstance(result, str):
                    pixels, used[name] = result
                    file.write(pixels)
                elif skip:
                    skipped.append((name, result))
                else:
                    raise PipelineError(f"{name} {result}")
            bar.update(len(batch))
    file.seek(0)
    _write_header(file, len(used), size)  # it has the same length for every number of rows
    return used, skipped


def _write_header(file: IO[bytes], rows: int, size: int) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)
