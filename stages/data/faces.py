"""The prepared faces: pixels mapped from disk, and who is on them in which split."""

import csv
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.common.errors import PipelineError

if TYPE_CHECKING:
    import torch  # takes seconds, and most of what handles faces needs none of it

SIZE = 128  # pixels a side, the paper's
SIZES = (32, 64, SIZE, 256)
HASHED = 1024  # faces that are hashed at a time, side by side
REMEDY = "run `dvc repro -f -s preprocess`"


@dataclass(frozen=True)
class Faces:
    """`images`: read-only uint8 (N, size, size, 3) RGB. `paths`, `people`, `splits`: (N,) strings.

    size is one of `SIZES`.
    """

    images: np.ndarray
    paths: np.ndarray
    people: np.ndarray
    splits: np.ndarray

    def rows(self, split: str) -> np.ndarray:
        """The row numbers of "train", "test" or "all" images, ascending."""
        if split not in ("train", "test", "all"):
            raise ValueError(f"split is {split!r}; it must be 'train', 'test' or 'all'")
        return np.flatnonzero((self.splits == split) | (split == "all"))

    @cached_property
    def hash(self) -> str:
        """sha256 of all that is here: of the digests of the pixels, 1024 faces each, and of the
        table. A fraction of a second for 13,000 faces."""
        blocks = range(0, len(self.images), HASHED)
        with ThreadPoolExecutor() as pool:
            digests = pool.map(self._digest, blocks)
        whole = hashlib.sha256(b"".join(digests))
        for row in zip(self.paths, self.people, self.splits, strict=True):
            whole.update("\0".join((*row, "")).encode())
        return whole.hexdigest()

    def _digest(self, start: int) -> bytes:
        pixels = np.ascontiguousarray(self.images[start : start + HASHED])
        return hashlib.sha256(pixels.data).digest()


def load(
    faces_path: str | Path = "data/faces.npy", table_path: str | Path = "data/faces.csv"
) -> Faces:
    """What `preprocess` wrote. Raises PipelineError where it is missing or inconsistent."""
    try:
        images = np.load(faces_path, mmap_mode="r", allow_pickle=False)
        with open(table_path, newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        columns = [np.array([row[name] for row in table]) for name in ("path", "person", "split")]
    except FileNotFoundError as error:
        raise PipelineError(f"{error.filename} is missing; run `dvc repro preprocess`") from None
    except (ValueError, EOFError, KeyError, csv.Error) as error:
        raise PipelineError(
            f"{faces_path} and {table_path} cannot be read ({error}); {REMEDY}"
        ) from None
    if images.dtype != np.uint8 or images.shape not in {(len(table), s, s, 3) for s in SIZES}:
        raise PipelineError(
            f"{faces_path} holds {images.dtype} {images.shape}, {table_path} {len(table)} rows; "
            f"{REMEDY}"
        )
    return Faces(images, *columns)


def to_tensor(images: np.ndarray) -> "torch.Tensor":
    """uint8 (n, size, size, 3) -> float32 (n, 3, size, size) in [0, 1]."""
    import torch

    pixels = torch.from_numpy(np.array(images))  # a copy: torch warns of read-only memory
    return pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(255)
