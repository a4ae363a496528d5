"""The stages of dvc.yaml, a module each, and the rooms that they call, in the order of the data:

common, data, kernels, model, measure, report. A room imports those before it alone.
"""

import hashlib
import os
import sys
from pathlib import Path
from types import TracebackType

INTERRUPTED = "interrupted; `dvc repro` goes on from here"


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell in a line what ends a stage while it imports what it needs, which takes seconds."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"error: {INTERRUPTED}", file=sys.stderr)
    elif damaged := _damaged(error, trace):
        damaged.unlink(missing_ok=True)
        print(
            f"error: {damaged}, a copy that Python keeps, was damaged, as a full disk leaves it; "
            "it is deleted, run `dvc repro` again",
            file=sys.stderr,
        )
    else:
        sys.__excepthook__(kind, error, trace)


def _damaged(error: BaseException, trace: TracebackType | None) -> Path | None:
    """The compiled file that could not be imported, which Python's error does not name."""
    while trace and trace.tb_next:
        trace = trace.tb_next
    path = trace.tb_frame.f_locals.get("bytecode_path") if trace else None
    return Path(path) if path and isinstance(error, EOFError | ValueError) else None


def _forget_stale_kernels() -> None:
    """Have all kernels compiled again after any file of theirs has changed.

    numba knows compiled code by the content of the file that its function is in, and kernels have
    functions of other files compiled into them. It is kept beside the source; where that cannot be,
    or in the user's NUMBA_CACHE_DIR, it has a folder named by the content of all files.
    """
    folder = Path(__file__).parent / "kernels"
    sources = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    content = hashlib.sha256(sources).hexdigest()
    elsewhere = os.environ.get("NUMBA_CACHE_DIR")
    if not elsewhere and not _only_of(content, folder / "__pycache__"):
        caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        elsewhere = os.path.join(caches, "recursive-autoencoder-kernels")
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


# Here, as nothing of the stages is imported before; and in kernels/ it would decide weights.
sys.excepthook = _tell
_forget_stale_kernels()
