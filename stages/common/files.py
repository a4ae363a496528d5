"""Outputs appear whole or not at all, and numbers look the same in every text file.

An unfinished output lies in a folder `.partial-NAME-...` beside its place; git and dvc ignore it.
A write that fails removes it, and the error of a full or read-only disk names the output. After a
kill, the next process that writes NAME removes it.
"""

import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

# Errors of a full or read-only disk, which may lack the name of the file.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield where to write a file: a path of the same name in another folder of the same disk. At
    the end the file replaces `path`."""
    with atomic_set(path) as (unfinished,):
        yield unfinished


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder to fill; at the end it replaces the folder `path`."""
    with _partial(Path(path)) as unfinished:
        unfinished.mkdir()
        yield unfinished
        _swap(unfinished, path)


@contextmanager
def atomic_set(*paths: str | Path) -> Iterator[list[Path]]:
    """Yield where to write files of one folder; at the end each replaces its path, in order."""
    first, *others = map(Path, paths)
    with _partial(first) as unfinished:
        places = [unfinished, *(unfinished.with_name(path.name) for path in others)]
        yield places
        for place, path in zip(places, paths, strict=True):
            os.replace(place, path)


def write_text(path: str | Path, text: str) -> None:
    """Replace the file by `text`, in UTF-8 and with its line ends as they are."""
    with atomic(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="")


def number(value: float) -> str:
    """How a measured value is written in text files: six significant digits."""
    return f"{value:.6g}"


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A place of the same name, in a folder beside `path` that is removed at the end."""
    prefix = f".partial-{path.name}-"
    folder: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{glob.escape(prefix)}*"):
            with _locked(left) as abandoned:
                if abandoned:
                    shutil.rmtree(left, ignore_errors=True)
        while True:
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
            with _locked(folder, wait=True):
                if folder.exists():  # else another writer took it for abandoned
                    yield folder / path.name
                    return
    except OSError as error:
        nameless = error.filename is None and error.errno in DISK
        if nameless or prefix in f"{error.filename}{error.filename2}":
            error.filename = str(path)
        raise
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _swap(unfinished: Path, path: str | Path) -> None:
    """Put a folder in its place, where another writer may put its own at any time."""
    while True:
        aside = tempfile.mkdtemp(dir=unfinished.parent)
        with suppress(FileNotFoundError):
            os.replace(path, Path(aside, "replaced"))
        try:
            return os.replace(unfinished, path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise


@contextmanager
def _locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the folder's lock, which ends with its process; False where it cannot be had."""
    held = False
    with ExitStack() as stack:
        # Another process holds it, it is gone, or the disk knows no locks.
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        yield held
