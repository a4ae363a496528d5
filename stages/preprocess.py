"""data/<dataset>.tar -> data/faces.npy (centre crops) and data/faces.csv (who, and which split)."""

import csv
import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from stages.data.archives import PARTIAL, Pictures, read_pictures
from stages.common.errors import PipelineError, exits_cleanly
from stages.common.settings import read_params

SIZE = 128  # pixels a side; of LFW's 250, rows and columns 61 to 188


def centre_crop(path: str, picture: bytes) -> np.ndarray:
    """The central (128, 128, 3) uint8 RGB pixels of an encoded picture.

    Raises PipelineError, naming `path`, where it does not decode or is smaller than that.
    """
    try:
        with Image.open(io.BytesIO(picture)) as image:
            left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
            if left < 0 or top < 0:
                raise PipelineError(
                    f"{path} is {image.width}x{image.height} pixels; at least {SIZE}x{SIZE} needed"
                )
            return np.asarray(image.convert("RGB"))[top : top + SIZE, left : left + SIZE]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PipelineError(f"{path} cannot be decoded: {error}") from None


def held_out_people(pictures: Pictures, held_out: float) -> set[str]:
    """The people whose pictures are never trained on: about `held_out` (0 to 1) of all.

    A hash of the name decides, so nobody changes sides when pictures are added. People who share
    a byte-identical picture all follow the alphabetically first of them.
    """
    leader = {}  # of a person: someone earlier in the alphabet that they follow, or themselves

    def first(person: str) -> str:
        while leader[person] != person:
            person = leader[person]
        return person

    owner = {}  # of a picture's bytes: the first person it was seen with
    for path, picture in pictures.items():
        person = path.split("/")[0]
        leader.setdefault(person, person)
        twin = owner.setdefault(hashlib.sha256(picture).digest(), person)
        early, late = sorted((first(person), first(twin)))
        leader[late] = early
    return {person for person in leader if _fraction(first(person)) < held_out}


def _fraction(name: str) -> float:
    """A number in [0, 1) that depends on nothing but the name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48


def write_faces(pictures: Pictures, held_out: float, folder: Path, partial: Path = PARTIAL) -> None:
    """Write folder/faces.npy, uint8 (N, 128, 128, 3) RGB, and folder/faces.csv: path,person,split.

    Rows of both are in bytewise path order. Raises PipelineError for a picture that does not fit,
    or where `held_out` leaves one of the splits empty, and then leaves both files as they were.
    """
    paths = sorted(pictures)
    rows = [(path, path.split("/")[0]) for path in paths]
    held = held_out_people(pictures, held_out)
    people = {person for _, person in rows}
    if not held or held == people:
        raise PipelineError(
            f"held_out {held_out} puts {len(held)} of {len(people)} people into the test split; "
            "use a value nearer to 0.5, or more pictures"
        )
    names = ("faces.npy", "faces.csv")
    partial.mkdir(parents=True, exist_ok=True)
    try:
        _write_crops(pictures, paths, partial / names[0])
        with (partial / names[1]).open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("path", "person", "split"))
            table.writerows((*row, "test" if row[1] in held else "train") for row in rows)
        for name in names:
            os.replace(partial / name, folder / name)
    finally:
        for name in names:
            (partial / name).unlink(missing_ok=True)


def _write_crops(pictures: Pictures, paths: list[str], file: Path) -> None:
    shape = (len(paths), SIZE, SIZE, 3)
    faces = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        crops = pool.map(centre_crop, paths, map(pictures.get, paths))
        for row, crop in enumerate(tqdm(crops, "decoding", len(paths), disable=None)):
            faces[row] = crop
    faces.flush()


@exits_cleanly
def main() -> None:
    params = read_params()
    pictures = read_pictures(Path("data") / f"{params.download.dataset}.tar")
    write_faces(pictures, params.preprocess.held_out, Path("data"))
    print(f"{len(pictures):,} faces")


if __name__ == "__main__":
    main()
