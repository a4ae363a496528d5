"""Code that decides weights may change its form: every byte of the weights stays as it was."""

from pathlib import Path

import pytest
import torch

from tests.conftest import python

AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "+avx2,+fma,+avx",
}
KINDS = {"avx2": AVX2, "avx512": dict[str, str]()}


def _processor(word: str) -> bool:
    path = Path("/proc/cpuinfo")
    return path.exists() and word in path.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_forty_steps_of_every_model_give_the_same_weights(kind: str) -> None:
    """On each kind of vectors. Only on the maker's processors that the hashes come from: MKL's
    exponential, which variational models use, asks for the maker."""
    if not _processor("AuthenticAMD") or not _processor(" avx2 "):
        pytest.skip("the hashes are of AMD processors with AVX2")
    if kind == "avx512" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this processor has no AVX-512")
    found = python("-m", "tests.model.forty_steps", **KINDS[kind])
    expected = (Path(__file__).with_name("weights") / f"{kind}.txt").read_text(encoding="utf-8")
    assert found == expected
