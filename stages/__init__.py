"""The stages of dvc.yaml, a module each, and the rooms that they call, in the order of the data:

common, data, kernels, model, measure, report. A room imports those before it alone.
"""

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


# Here, as nothing of the stages is imported before; and in kernels/ it would decide weights.
sys.excepthook = _tell
from stages.common.kernel_cache import keep_kernels_by_content  # noqa: E402

keep_kernels_by_content()
# On a GPU, too, single precision has all its 24 bits.
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
