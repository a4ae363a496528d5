"""The folder where numba keeps compiled kernels. It never runs kernels of former code."""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path


def keep_kernels_by_content() -> None:
    """Have numba keep compiled kernels in a folder named by the content of all their files.

    numba knows a compiled kernel by its file alone, though functions of other files are compiled
    into it. The folder lies in the user's NUMBA_CACHE_DIR, else beside the source, or in the
    system's temporary folder where that cannot be written to.
    """
    beside = Path(__file__).parents[1] / "kernels" / "__pycache__"
    sources = b"".join(path.read_bytes() for path in sorted(beside.parent.glob("*.py")))
    given = os.environ.get("NUMBA_CACHE_DIR")
    # A process of another checkout passes its own folder on to the processes that it starts.
    if not given or Path(given).parent.match("stages/kernels/__pycache__"):
        with suppress(OSError):
            beside.mkdir(exist_ok=True)
        writable = beside.is_dir() and os.access(beside, os.W_OK)
        given = str(beside) if writable else _private_folder()
    content = hashlib.sha256(sources).hexdigest()
    if given and os.path.basename(given) != content:
        os.environ["NUMBA_CACHE_DIR"] = os.path.join(given, content)


def _private_folder() -> str | None:
    """One of this user alone: whoever could write into it could run code as this user."""
    with suppress(OSError):
        folder = Path(tempfile.gettempdir(), f"recursive-autoencoder-kernels-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
        if state.st_uid == os.getuid() and not state.st_mode & 0o077:
            return str(folder)
    return None
