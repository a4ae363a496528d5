"""Pictures in archives: read from a tar, zip or folder, stored as one canonical tar.

Pictures travel as {"<Name>/<Name>_<NNNN>.jpg": JPEG bytes}. Archives are read member by member in
memory and never extracted, so no name inside one can reach the disk.
"""

import hashlib
import io
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import partial as bind
from pathlib import Path

from stages.common.errors import PipelineError

Pictures = dict[str, bytes]
Members = Iterable[tuple[str, Callable[[], bytes]]]  # of an archive: name, what reads the content

PICTURE = re.compile(r"(?:^|/)(([A-Za-z][\w-]*)/\2_\d{4}\.jpg)$", re.ASCII)
PARTIAL = Path("data/partial")  # unfinished downloads and outputs; git-ignored
# What the readers of damaged archives raise.
UNREADABLE = (
    *(OSError, EOFError, ValueError, RuntimeError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error),
)


def read_pictures(path: Path) -> Pictures:
    """Every <Name>/<Name>_<NNNN>.jpg in an archive or folder; anything else in it is skipped.

    Raises PipelineError where `path` does not exist or cannot be read to its end.
    """
    try:
        if path.is_dir():
            return keep_pictures((file.as_posix(), file.read_bytes) for file in path.rglob("*.jpg"))
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                return keep_pictures(tar_members(tar))
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                return keep_pictures((name, bind(file.read, name)) for name in file.namelist())
    except FileNotFoundError:
        raise PipelineError(f"{path.absolute()} does not exist") from None
    except UNREADABLE as error:
        raise PipelineError(f"{path} cannot be read: {error}") from None
    raise PipelineError(f"{path} is neither a folder nor a .tar, .tgz or .zip archive")


def write_tar(pictures: Pictures, path: Path, partial: Path = PARTIAL) -> None:
    """Store pictures, sorted and with fixed headers: the same pictures give the same bytes.

    `partial`, a folder on the same disk, holds the file until it is complete.
    """
    partial.mkdir(parents=True, exist_ok=True)
    unfinished = partial / path.name
    with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(pictures):
            member = tarfile.TarInfo(name)  # mode 0644, owner and group 0, time 0
            member.size = len(pictures[name])
            tar.addfile(member, io.BytesIO(pictures[name]))
    os.replace(unfinished, path)


def content_hash(pictures: Pictures) -> str:
    """sha256 of the lines `<sha256 of a picture>  <its path>`, in bytewise path order."""
    listing = hashlib.sha256()
    for path in sorted(pictures):
        listing.update(f"{hashlib.sha256(pictures[path]).hexdigest()}  {path}\n".encode())
    return listing.hexdigest()


def tar_members(tar: tarfile.TarFile) -> Members:
    """The regular files of an open tar, in its order; read each before going on to the next."""
    for member in tar:
        if member.isfile():
            yield member.name, tar.extractfile(member).read


def keep_pictures(members: Members) -> Pictures:
    """The members called <Name>/<Name>_<NNNN>.jpg, in whatever folder they are."""
    found = ((PICTURE.search(name), read) for name, read in members)
    return {picture[1]: read() for picture, read in found if picture}
