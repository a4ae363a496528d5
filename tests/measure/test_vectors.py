"""Another processor: the same numbers up to a tolerance, which docs/faults.md states.

Narrower vector instructions stand for it, as sums are added up in another order. PyTorch and numba
have a switch each.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from stages.measure import statistics
from stages.measure.measures import MEASURES
from tests.conftest import python

# The kernels beside their plain formulation, a hundred steps of a training, and the measures of the
# weights that this processor makes of it.
CODE = """
import json, sys
from pathlib import Path
import torch
from stages.common.settings import Training
from stages.kernels import operations
from stages.measure.compute import measure, measured_faces, threads
from stages.model import checkpoint
from stages.model.network import state
from stages.model.training import Trainer
from tests.conftest import made_faces, model_settings
from tests.kernels.precision import assert_as_exact
from tests.kernels.test_operations import convolutions_compared

for level in [(6, 3, 5, 8), (12, 6, 3, 8), (48, 48, 3, 8)]:
    for compared in convolutions_compared(*level, "selu", 16):
        assert_as_exact(*compared)
faces = made_faces(192)
vectors = [torch.backends.cpu.get_cpu_capability(), operations.tile.width]
told = {"vectors": vectors, "curves": {}, "measures": {}}
for name, changes in json.loads(sys.argv[1]).items():
    training = Training(settings=model_settings(epochs=10, **changes), seed=0, faces=faces.hash)
    trainer = Trainer(training, faces)
    while trainer.epoch < 10:
        trainer.run_epoch()
    told["curves"][name] = {f"{p.loss} {p.epoch}": p.value for p in trainer.curve}
    path = Path(f"{name}.safetensors")
    if not path.exists():
        checkpoint.save(state(trainer.model), path, training, "last_step")
    with threads() as pool:
        rows = measure(pool, checkpoint.load(path)[0], *measured_faces(faces)).rows
    told["measures"][name] = [(*where, value, images) for *where, value, _, images in rows]
print(json.dumps(told))
"""
MODELS = {
    "recursive": {"norm": "shared", "variational": True},
    "stacked": {"training": "stacked", "norm": "batch"},
}
X86 = sys.platform == "linux" and os.uname().machine == "x86_64"
# Relative. Where a norm's running statistics are noisy, so is the error of a training's last step:
# of seven seeds one differed by 10 %, the others by 2 to 6 %.
OF_MEASURES, OF_LAST_STEP, OF_STEPS = 1e-4, 0.3, 0.02
# A face is found or not, and a rounded pixel may decide it: in seven seeds, of one picture in 250.
PICTURES = 2

Told = dict[str, Any]


def computed(folder: Path, **environment: str) -> Told:
    told: Told = json.loads(python("-c", CODE, json.dumps(MODELS), cwd=folder, **environment))
    return told


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    """As this processor computes, and the folder with its weights."""
    folder = tmp_path_factory.mktemp("weights")
    return folder, computed(folder)


@pytest.mark.slow
@pytest.mark.skipif(not X86, reason="x86 only")
@pytest.mark.parametrize(
    ("torch_s", "features", "vectors"),
    [("avx2", "+avx2,+fma,+avx", ["AVX2", 8]), ("default", "+sse4.2", ["DEFAULT", 4])],
    ids=["AVX2", "SSE"],
)
def test_narrower_vectors_give_the_same_numbers_up_to_a_tolerance(
    here: tuple[Path, Told], tmp_path: Path, torch_s: str, features: str, vectors: list[object]
) -> None:
    folder, ours = here
    theirs = computed(
        folder,
        ATEN_CPU_CAPABILITY=torch_s,
        NUMBA_CPU_NAME="generic",
        NUMBA_CPU_FEATURES=features,
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    assert theirs["vectors"] == vectors
    for name in MODELS:
        for row, (split, measure, value, images) in zip(
            theirs["measures"][name], ours["measures"][name], strict=True
        ):
            fraction = MEASURES[measure].statistic is statistics.fraction
            absolute = PICTURES / images if fraction else None
            same = pytest.approx(value, rel=OF_MEASURES, abs=absolute)
            assert row == [split, measure, same, images]
        for point, value in theirs["curves"][name].items():
            relative = OF_LAST_STEP if point.startswith("error ") else OF_STEPS
            assert value == pytest.approx(ours["curves"][name][point], rel=relative), point
