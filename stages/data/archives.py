"""The files of archives and folders, one by one, in bounded time and memory.

No archive is extracted, so that no name in it reaches the disk. In folders, links are followed,
each folder is read once, and only regular files are opened.
"""

import gzip
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial as bind
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any, cast

from stages.common.errors import PipelineError
from stages.data.pictures import WholeHeader

MEMBERS = 500_000  # in an archive or folder
PICTURE_BYTES = 2**26
TOTAL_BYTES = 2**34  # of an archive, unpacked
HEADER_BYTES = 2**20  # that a tar may put before a member
KINDS = "a folder nor a .tar, .tgz or .zip archive"
# What the readers of damaged archives raise.
UNREADABLE = (
    *(OSError, EOFError, ValueError, RuntimeError, OverflowError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class Member:
    """A file in an archive or folder: its path with slashes, and its size in bytes.

    read: call it before you take the next member. repeats: the target of a hard link in a tar,
    which cannot be read."""

    name: str
    size: int
    read: Callable[[], bytes]
    repeats: str = ""


def members(path: Path) -> Iterator[Member]:
    """The regular files in a folder or in a .tar, .tgz or .zip archive.

    Raises PipelineError where `path` does not exist, is something else, cannot be read, or has more
    members or bytes than allowed above. Reading a member raises the same.
    """
    with _explained(path):
        for number, member in enumerate(_members(path)):
            if number == MEMBERS:
                raise PipelineError(f"{path} has more than {MEMBERS:,} entries")
            if member:
                yield replace(member, read=_explained(path)(member.read))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise PipelineError(f"{Path(error.filename).absolute()} does not exist") from None
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PipelineError(f"{path} cannot be read: {reason}") from None


def _members(path: Path) -> Iterator[Member | None]:
    """None for an entry that is no regular file."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        yield from _folder_members(path)
        return
    if not stat.S_ISREG(mode):
        raise PipelineError(f"{path} is neither {KINDS}")
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        if start.startswith(b"\x1f\x8b"):
            yield from gzipped_tar_members(file)
        elif _is_tar_header(start):
            yield from _tar_members(file)
        elif zipfile.is_zipfile(file):
            yield from _zip_members(file)
        else:
            page = re.search(rb"<html|<!doctype", start, re.IGNORECASE)
            raise PipelineError(f"{path} is {'a web page, ' if page else ''}neither {KINDS}")


def _is_tar_header(block: bytes) -> bool:
    """Whether a block is the header of any kind of tar; the oldest, v7, has no magic number."""
    with suppress(tarfile.HeaderError):
        return bool(tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape"))
    return False


def _in_natural_order(name: str) -> tuple[list[str | int], str]:
    """A sort key that puts photo2 before photo10."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if part.isdecimal() else part for part in parts], name


def _folder_members(root: Path) -> Iterator[Member | None]:
    """Linked folders come last, so that a folder below `root` is read at its own place. Each folder
    is read once, so that loops end."""
    real, linked = [(root, root.resolve().name)], list[tuple[Path, str]]()  # `real` is a stack
    seen = set[tuple[int, int]]()
    while real or linked:
        folder, name = real.pop() if real else linked.pop(0)
        state = folder.stat()
        if (key := (state.st_dev, state.st_ino)) in seen:
            continue
        seen.add(key)
        inside = list[tuple[Path, str]]()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: _in_natural_order(entry.name)):
                inner, path = f"{name}/{entry.name}", Path(entry.path)
                if path.is_file():  # neither a broken link nor one to a device
                    size = path.stat().st_size
                    yield Member(inner, size, bind(_read, bind(path.open, "rb"), size))
                    continue
                if path.is_dir():
                    (linked if entry.is_symlink() else inside).append((path, inner))
                yield None
        real += reversed(inside)


def _read(open_file: Callable[[], IO[Any]], size: int) -> bytes:
    """At most the size that the member claims: a zip may lie."""
    with open_file() as file:
        content: bytes = file.read(size)
        return content


def _zip_members(file: IO[bytes]) -> Iterator[Member | None]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            # Made on Windows, some archives have backslashes.
            name = info.filename.replace("\\", "/")
            read = bind(_read, bind(archive.open, info), info.file_size)
            yield None if info.is_dir() else Member(name, info.file_size, read)


def gzipped_tar_members(file: BufferedIOBase) -> Iterator[Member | None]:
    """As `members`, of an open .tgz; None for no regular file. Raises errors of UNREADABLE."""
    with gzip.GzipFile(fileobj=file) as stream:
        yield from _tar_members(stream)


def _tar_members(stream: BufferedIOBase) -> Iterator[Member | None]:
    """Reads to the end, where a .tgz checks its checksum. Raises ReadError where more follows."""
    bounded = _Bounded(stream)
    with tarfile.open(fileobj=cast(IO[bytes], bounded), mode="r|", tarinfo=WholeHeader) as tar:
        while member := tar.next():
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep all it has seen
            bounded.allow(member.size)
            name = member.name.replace("\\", "/")
            read = bind(_read_tarred, tar, member)
            repeats = member.linkname if member.islnk() else ""
            known = member.isreg() or repeats
            yield Member(name, member.size, read, repeats) if known else None
        bounded.allow(TOTAL_BYTES)
        while rest := tar.fileobj.read(1 << 20):
            if any(rest):
                raise tarfile.ReadError("something follows its end; give a second tar on its own")


def _read_tarred(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.islnk():
        raise tarfile.ReadError(f"{member.name} is a link to {member.linkname}")
    file = tar.extractfile(member)
    assert file is not None  # as it is a regular file
    return file.read()


class _Bounded:
    """A stream that is read no further than allowed: tarfile reads headers of any size."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream, self._left, self._total = stream, HEADER_BYTES, TOTAL_BYTES

    def allow(self, size: int) -> None:
        """Allow a member of this size and the headers behind it."""
        self._left = size + HEADER_BYTES

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        self._total -= len(content)
        if self._left < 0:
            raise tarfile.ReadError(f"a header of more than {HEADER_BYTES:,} bytes")
        if self._total < 0:
            raise tarfile.ReadError(f"it has more than {TOTAL_BYTES:,} bytes")
        return content
