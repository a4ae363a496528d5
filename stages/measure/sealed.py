"""Folders of reports/ whose files are read only as they were written, and within limits.

contents.yaml has the SHA-256 of every file of its folder, and in its last line its own.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Generic, TypeVar
from zipfile import ZipFile

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from stages.common import files
from stages.common.errors import PipelineError
from stages.common.settings import Checked

CONTENTS = "contents.yaml"
SEAL = "# SHA-256 of all above: "
LARGEST = 2**26  # bytes of a file, packed or not: ours have 2**18


class Contents(Checked):
    """faces: content hash of the faces that were measured. files: SHA-256 of every other file, by
    its path below reports/."""

    faces: str
    files: dict[str, str]


Kind = TypeVar("Kind", bound=Contents)


class Folder(Generic[Kind]):
    """A folder `reports`/`name`. advice: the command that writes it. Raises PipelineError where
    contents.yaml is missing or not as it was written."""

    def __init__(self, kind: type[Kind], reports: Path, name: str, advice: str) -> None:
        self.reports, self.name, self.advice = reports, f"reports/{name}", advice
        if not (reports / name / CONTENTS).exists():
            raise PipelineError(f"{self.name} is missing; run `{advice}`")
        text, _, seal = self._read(f"{name}/{CONTENTS}").decode(errors="replace").partition(SEAL)
        if seal != f"{sha256(text.encode())}\n":
            raise self.damaged(CONTENTS)
        with self.parsing(CONTENTS):
            self.contents = kind.model_validate(yaml.safe_load(text))

    def data(self, file: str) -> bytes:
        """A file, by its path below reports/. Raises PipelineError where it is not as written."""
        data = self._read(file)
        if sha256(data) != self.contents.files.get(file):
            raise self.damaged(file)
        return data

    @contextmanager
    def parsing(self, file: str) -> Iterator[None]:
        """Raise a PipelineError for whatever the parsers of a file raise."""
        try:
            yield
        except PipelineError:
            raise
        except Exception:
            raise self.damaged(file, "cannot be read") from None

    def damaged(self, file: str, how: str = "is not as it was written") -> PipelineError:
        return PipelineError(f"{self.name}: {Path(file).name} {how}; run `{self.advice}`")

    def _read(self, file: str) -> bytes:
        path = self.reports / file
        if not path.is_file():
            raise self.damaged(file, "is missing")
        if path.stat().st_size > LARGEST:
            raise self.damaged(file, f"has more than {LARGEST} bytes")
        return path.read_bytes()


def table(data: bytes, columns: Mapping[str, type], index: int) -> pd.DataFrame:
    """A CSV of these columns, sorted by its index, the first `index` of them. Raises ValueError or
    KeyError for text in place of numbers, a missing column, and two rows of the same index."""
    rows = pd.read_csv(BytesIO(data), dtype={**columns}).set_index([*columns][:index])
    if not rows.index.is_unique:
        raise ValueError("rows of the same index")
    return rows[[*columns][index:]].sort_index()


def write_table(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, float_format=files.number, lineterminator="\n")  # type: ignore[arg-type]


def array(data: bytes, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float array of an NPZ file; -1 stands for any length. Raises ValueError or KeyError for
    another shape or type, and for a large file."""
    with ZipFile(BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
    with np.load(BytesIO(data)) as arrays:
        values: np.ndarray = arrays[name]
    fits = [wanted in (-1, length) for wanted, length in zip(shape, values.shape, strict=True)]
    if values.dtype.kind != "f" or not all(fits):
        raise ValueError(f"{name} is {values.dtype} {values.shape}")
    return values


def grid(data: bytes, count: int) -> list[np.ndarray]:
    """The rows of a picture of faces, each uint8 (count, s, s, 3). Raises ValueError."""
    with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(data)) as image:
        if image.mode != "RGB" or image.width * image.height * 3 > LARGEST:
            raise ValueError(f"{image.mode} {image.size}")
        size, pixels = image.width // count, np.asarray(image)
    return [*pixels.reshape(-1, size, count, size, 3).swapaxes(1, 2)]


def write_grid(rows: Sequence[np.ndarray], path: Path) -> None:
    """Write rows of equally many faces, uint8 (n, s, s, 3), without borders."""
    pixels = np.concatenate([np.concatenate([*row], axis=1) for row in rows])
    Image.fromarray(pixels).save(path, optimize=True)


def hashes(folders: Mapping[Path, Path], reports: Path) -> dict[str, str]:
    """SHA-256 of every file in the folders (keys), by where it will be: below their values."""
    return {
        (place / path.name).relative_to(reports).as_posix(): sha256(path.read_bytes())
        for folder, place in folders.items()
        for path in sorted(folder.iterdir())
    }


def seal(contents: Contents, folder: Path) -> None:
    text = yaml.safe_dump(contents.model_dump(), sort_keys=False)
    text += f"{SEAL}{sha256(text.encode())}\n"
    (folder / CONTENTS).write_text(text, encoding="utf-8")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
