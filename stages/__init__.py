"""The stages of dvc.yaml, a module each, and the rooms that they call, in the order of the data:

common, data, kernels, model, measure, report. A room imports those before it alone.
"""

import os
import sys
from types import TracebackType

INTERRUPTED = "interrupted; `dvc repro` goes on from here"


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a line when Ctrl-C ends a stage while it imports what it needs, which takes seconds."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"error: {INTERRUPTED}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Here, as nothing of the stages is imported before; and in kernels/ it would decide weights.
sys.excepthook = _tell
from stages.common.kernel_cache import keep_kernels_by_content  # noqa: E402

keep_kernels_by_content()
# On a GPU, too, single precision has all its 24 bits.
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
# Each of these binds PyTorch, and every process that is started after its import, to the same core.
for binding in ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"):
    os.environ.pop(binding, None)
