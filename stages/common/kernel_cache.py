"""Where numba keeps compiled kernels, so that it never runs those of former code."""

import hashlib
import os
import tempfile
from pathlib import Path


def keep_kernels_by_content() -> None:
    """Have numba keep compiled kernels in a folder named by the content of all their files.

    numba knows compiled code by the file that its function is in, and kernels have functions of
    other files compiled into them. In a folder of their own, processes that run former code, or
    that began before an edit, neither find what is new nor leave what is old. The folder lies
    beside the source, where that cannot be written to in the system's temporary folder, or in the
    user's NUMBA_CACHE_DIR.
    """
    beside = Path(__file__).parents[1] / "kernels" / "__pycache__"
    sources = b"".join(path.read_bytes() for path in sorted(beside.parent.glob("*.py")))
    given = os.environ.get("NUMBA_CACHE_DIR")
    # What a process of another checkout has named for itself, it passes on to those it starts.
    if not given or Path(given).parent.match("stages/kernels/__pycache__"):
        given = str(beside) if _writable(beside) else _private_folder()
    content = hashlib.sha256(sources).hexdigest()
    if given and os.path.basename(given) != content:
        os.environ["NUMBA_CACHE_DIR"] = os.path.join(given, content)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _private_folder() -> str | None:
    """One of this user alone, as whoever could write into it could run code as this user."""
    try:
        folder = Path(tempfile.gettempdir(), f"recursive-autoencoder-kernels-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    return str(folder) if found.st_uid == os.getuid() and not found.st_mode & 0o077 else None
