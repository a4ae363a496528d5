"""The stages of dvc.yaml, a module each, and the rooms that they call, in the order of the data:

common, data, kernels, model, measure, report. A room imports those before it alone.
"""

import hashlib
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
    functions of other files compiled into them.
    """
    folder = Path(__file__).parent / "kernels"
    sources = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    content = hashlib.sha256(sources).hexdigest()
    known = folder / "__pycache__/sources.sha256"
    try:
        if known.exists() and known.read_text(encoding="utf-8") == content:
            return
        for index in known.parent.glob("*.nbi"):
            index.unlink(missing_ok=True)
        known.parent.mkdir(exist_ok=True)
        known.write_text(content, encoding="utf-8")
    except OSError:  # nothing can be written here, nor could be edited
        pass


# Here, as nothing of the stages is imported before; and in kernels/ it would decide weights.
sys.excepthook = _tell
_forget_stale_kernels()
