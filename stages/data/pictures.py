"""Encoded pictures by name, in one file on disk: unsorted as they arrive, or the canonical tar.

A name is a path whose first part is the person: "Zoe/Zoe_0001.jpg".
"""

import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from stages.common.errors import PipelineError
from stages.common.files import DISK, atomic

PARTIAL = Path("data/partial")  # unfinished downloads; git-ignored
SHOWN = 20  # reasons why pictures were skipped, and names for each

Skipped = list[tuple[str, str]]  # names and reasons, as "is 90x90 pixels"


class Pictures(Mapping[str, bytes]):
    """Pictures in a file, each read when it is asked for, by any thread."""

    def __init__(self, file: IO[bytes], places: dict[str, tuple[int, int]]) -> None:
        """places: for every name, where its bytes begin in `file`, and their number."""
        self._file, self._places = file, places

    def __getitem__(self, name: str) -> bytes:
        start, size = self._places[name]
        return os.pread(self._file.fileno(), size, start)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def renamed(self, names: Mapping[str, str]) -> "Pictures":
        """The same pictures by other names. names: the new one for each old one."""
        return Pictures(self._file, {names[old]: place for old, place in self._places.items()})


class WholeHeader(tarfile.TarInfo):
    """A tar's member. A damaged header is an error, where tarfile would see the end of the tar."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":
                raise
            raise tarfile.ReadError(str(error)) from None


def store(contents: Iterable[tuple[str, bytes]], limit: int, partial: Path = PARTIAL) -> Pictures:
    """Keep names and pictures, in any order, in a nameless file in the folder `partial`.

    Raises PipelineError where a name comes twice with different pictures, or where all have more
    than `limit` bytes. The OSError of a full disk names the folder.
    """
    partial.mkdir(parents=True, exist_ok=True)
    file = tempfile.TemporaryFile(dir=partial)  # noqa: SIM115  # the pictures are read from it
    places: dict[str, tuple[int, int]] = {}
    pictures, end = Pictures(file, places), 0
    try:
        for name, content in contents:
            if name in places:
                file.flush()
                if pictures[name] != content:
                    raise PipelineError(f"there are two different pictures called {name}")
                continue
            if end + len(content) > limit:
                raise PipelineError(f"the pictures have more than {limit:,} bytes in all")
            file.write(content)
            places[name] = (end, len(content))
            end += len(content)
        file.flush()
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None and error.errno in DISK:
            error.filename = str(partial)
        with suppress(OSError):  # a full disk raises a second time
            file.close()
        raise
    return pictures


def write_tar(pictures: Mapping[str, bytes], path: Path) -> None:
    """Store pictures, sorted and with fixed headers: the same pictures give the same bytes."""
    with (
        atomic(path) as unfinished,
        tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar,
    ):
        for name in sorted(pictures):
            member = tarfile.TarInfo(name)  # mode 0644, owner and group 0, time 0
            content = pictures[name]
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def read_tar(path: Path) -> Pictures:
    """What `write_tar` stored. Raises PipelineError where it is missing or damaged."""
    advice = "run `dvc repro download`"
    places: dict[str, tuple[int, int]] = {}
    try:
        file = path.open("rb")
        with tarfile.open(fileobj=file, mode="r:", tarinfo=WholeHeader, encoding="utf-8") as tar:
            while member := tar.next():
                places[member.name] = (member.offset_data, member.size)
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep all
    except FileNotFoundError:
        raise PipelineError(f"{path} does not exist; {advice}") from None
    except (tarfile.TarError, ValueError) as error:
        raise PipelineError(f"{path} cannot be read ({error}); {advice}") from None
    return Pictures(file, places)


def content_hash(pictures: Mapping[str, bytes]) -> str:
    """sha256 of the lines `<sha256 of a picture>  <its name>`, in bytewise order of names."""
    listing = hashlib.sha256()
    for name in sorted(pictures):
        listing.update(f"{hashlib.sha256(pictures[name]).hexdigest()}  {name}\n".encode())
    return listing.hexdigest()


def because_of(skipped: Skipped) -> str:
    """The end of an error about missing pictures."""
    return f" ({tell_skipped(skipped)})" if skipped else ""


def tell_skipped(skipped: Skipped) -> str:
    """How many files were left out, and the first reasons with their numbers and files."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in skipped:
        by_reason.setdefault(reason, []).append(name)
    reasons = [f"{why} ({len(names):,}): {_first(names, ', ')}" for why, names in by_reason.items()]
    return f"{len(skipped):,} files skipped: {_first(reasons, '; ')}"


def _first(parts: Sequence[str], separator: str) -> str:
    more = [f"and {len(parts) - SHOWN:,} more"] if len(parts) > SHOWN else []
    return separator.join([*parts[:SHOWN], *more])
