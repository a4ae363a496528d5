"""Where numba keeps compiled kernels, so that it never runs those of former code."""

import hashlib
import os
import stat
from pathlib import Path


def forget_stale_kernels() -> None:
    """Have all kernels compiled again after any file of theirs has changed.

    numba knows compiled code by the content of the file that its function is in, and kernels have
    functions of other files compiled into them. It is kept beside the source; where that cannot be,
    or in the user's NUMBA_CACHE_DIR, it has a folder named by the content of all files.
    """
    folder = Path(__file__).parents[1] / "kernels"
    sources = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    content = hashlib.sha256(sources).hexdigest()
    elsewhere = os.environ.get("NUMBA_CACHE_DIR")
    if not elsewhere and not _only_of(content, folder / "__pycache__"):
        elsewhere = _own_folder()
    # A process started by this one finds the folder named already.
    if elsewhere and os.path.basename(elsewhere) != content:
        os.environ["NUMBA_CACHE_DIR"] = os.path.join(elsewhere, content)


def _only_of(content: str, folder: Path) -> bool:
    """Whether `folder` can keep code, once that of other content is deleted."""
    known = folder / "sources.sha256"
    try:
        folder.mkdir(exist_ok=True)
        if not known.exists() or known.read_text(encoding="utf-8") != content:
            for index in folder.glob("*.nbi"):
                index.unlink(missing_ok=True)
            known.write_text(content, encoding="utf-8")
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _own_folder() -> str | None:
    """One of this user alone, as whoever could write into it could run code as this user.

    `jit.temporary_folder` is where numba ends when there is none; to call it loads numba, too late.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for parent in (caches, os.environ.get("TMPDIR") or "/tmp"):
        folder = Path(parent, f"recursive-autoencoder-kernels-{os.getuid()}")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
        except OSError:
            continue
        closed = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        if closed and found.st_uid == os.getuid() and os.access(folder, os.W_OK):
            return str(folder)
    return None
