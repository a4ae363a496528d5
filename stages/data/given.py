"""Pictures that somebody names on the command line."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.common.errors import PipelineError
from stages.data.archives import PICTURE_BYTES
from stages.data.crops import fit
from stages.data.face_crop import fit_face
from stages.data.pictures import Skipped, because_of
from stages.data.sources.own import own_pictures

ARCHIVES = (".tar", ".tgz", ".tar.gz", ".zip")


class Given(NamedTuple):
    """names: (n). crops: "face" or "centre" (n). pixels: uint8 (n, size, size, 3). skipped: names
    of the pictures left out, and reasons."""

    names: list[str]
    crops: list[str]
    pixels: np.ndarray
    skipped: Skipped


def read(paths: Sequence[str], most: int, crop: str, size: int) -> Given:
    """The first `most` pictures of these files, folders and archives, cropped to the largest face
    or, where none is found or `crop` is "centre", by `crops.fit`, to `size` pixels a side.

    Raises PipelineError where there is none, and for a file that is no picture. In folders and
    archives, files that are no pictures are skipped.
    """
    names, crops, pixels, skipped = list[str](), list[str](), list[np.ndarray](), Skipped()
    for path in map(Path, paths):
        alone = not (path.is_dir() or path.name.lower().endswith(ARCHIVES))
        for name, picture in _file(path) if alone else own_pictures.encoded(path, skipped):
            if len(names) == most:
                skipped.append((name, f"beyond the first {most} pictures"))
                continue
            try:
                face = fit_face(picture, size) if crop == "face" else None
                pixels.append(fit(picture, size) if face is None else face)
            except PipelineError as error:
                if alone:
                    raise PipelineError(f"{path} {error}") from None
                skipped.append((name, str(error)))
            else:
                names.append(name)
                crops.append("centre" if face is None else "face")
    if not names:
        raise PipelineError(f"there is no picture in {', '.join(paths)}{because_of(skipped)}")
    return Given(names, crops, np.stack(pixels), skipped)


def _file(path: Path) -> Iterator[tuple[str, bytes]]:
    if not path.is_file():
        raise PipelineError(f"{path} does not exist")
    if path.stat().st_size > PICTURE_BYTES:
        raise PipelineError(f"{path} has more than {PICTURE_BYTES:,} bytes")
    yield path.name if path.name.isprintable() else ascii(path.name), path.read_bytes()
