"""What the stages set for a whole process, and a library must not."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from PIL import Image

KEPT = "NUMBA_CACHE_DIR"  # numba reads it whenever a kernel is compiled


@contextmanager
def undisturbed(gpus: Iterable[int] = ()) -> Iterator[None]:
    """Leave the exception hook, environment, Pillow's limit, and PyTorch's threads and random
    generators, those of `gpus` too, as they were. TF32, which the stages turn off, stays on."""
    hook, environment = sys.excepthook, dict(os.environ)
    environment.pop(KEPT, None)
    limit, threads = Image.MAX_IMAGE_PIXELS, torch.get_num_threads()
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        sys.excepthook, Image.MAX_IMAGE_PIXELS = hook, limit
        for name in os.environ.keys() - environment.keys() - {KEPT}:
            del os.environ[name]
        os.environ.update(environment)
        torch.set_num_threads(threads)
