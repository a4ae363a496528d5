"""What the compiled kernels take, and that everything else runs in PyTorch's own operations."""

import pytest
import torch
from torch import Tensor, nn

from stages.common.settings import Training
from stages.kernels import operations
from stages.kernels.operations import supports
from stages.kernels.tiles import vector_extension
from stages.model.training import Trainer
from tests.conftest import made_faces, python, small

X, WEIGHT, BIAS = torch.rand(16, 3, 8, 8), torch.rand(6, 3, 3, 3), torch.rand(6)


def test_the_network_s_shapes_are_taken() -> None:
    assert supports(X) and supports(X, BIAS, weight=WEIGHT)
    assert supports(nn.Parameter(X), nn.Parameter(BIAS), weight=nn.Parameter(WEIGHT))
    assert supports(torch.rand(16, 6, 1, 1), torch.rand(3), weight=WEIGHT, transposed=True)
    assert supports(X.permute(0, 1, 3, 2), weight=torch.rand(3, 3, 5, 5))


REFUSED: dict[str, tuple[Tensor, Tensor]] = {
    "double precision": (X.double(), WEIGHT.double()),
    "weights of another type": (X, WEIGHT.double()),
    "a batch that is no multiple of 16": (X[:8], WEIGHT),
    "no batch": (X[:0], WEIGHT),
    "another device": (X.to("meta"), WEIGHT.to("meta")),
    "a sparse tensor": (X.to_sparse(), WEIGHT),
    "a subclass": (torch.Tensor._make_subclass(type("Own", (Tensor,), {}), X), WEIGHT),
    "kernel 4": (X, torch.rand(6, 3, 4, 4)),
    "a kernel that is no square": (X, torch.rand(6, 3, 3, 5)),
    "channels that are no multiple of 3": (torch.rand(16, 4, 8, 8), torch.rand(6, 4, 3, 3)),
    "filters that are no multiple of 3": (X, torch.rand(8, 3, 3, 3)),
    "channels that the weights lack": (torch.rand(16, 6, 8, 8), WEIGHT),
    "an odd height": (torch.rand(16, 3, 7, 8), WEIGHT),
    "no image": (X[0], WEIGHT),
}


@pytest.mark.parametrize("what", REFUSED)
def test_nothing_else_is(what: str) -> None:
    x, weight = REFUSED[what]
    assert not supports(x, weight=weight)


def trained() -> tuple[bool, bool]:
    """Whether the kernels are on, and whether a training's batches lie in PyTorch's own order."""
    training = Training(settings=small(levels=2), seed=0, faces="")
    trainer = Trainer(training, made_faces(48, 32))
    trainer.run_epoch()
    return operations.kernels_on(), trainer.batches(trainer.batch).is_contiguous()


def test_environment_variables_turn_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained() == (True, False)
    code = "from tests.kernels.test_contract import trained; print(*trained())"
    assert python("-c", code, NUMBA_DISABLE_JIT="1") == "False True\n"
    monkeypatch.setenv(operations.SWITCH, "0")
    assert trained() == (False, True)


class Level(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return operations.convolution(x, WEIGHT, BIAS, "selu")


def test_they_step_aside_while_exporting_tracing_and_compiling() -> None:
    expected = Level()(X)
    batch = torch.export.Dim("batch")
    exported = torch.export.export(Level(), (X,), dynamic_shapes={"x": {0: batch}})
    operators = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert any("conv2d" in name for name in operators)
    torch.testing.assert_close(exported.module()(X), expected)
    assert exported.module()(X[:5]).shape == (5, 6, 4, 4)
    traced = torch.jit.trace(Level(), (X,))
    assert "_convolution" in str(traced.inlined_graph)
    torch.testing.assert_close(traced(X), expected)
    seen = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    torch.testing.assert_close(torch.compile(Level(), backend=backend)(X), expected)
    assert any("conv2d" in name for name in seen)


@pytest.mark.parametrize(
    ("features", "extension"),
    [("+avx2,+fma,+avx", "AVX2"), ("+sse2", "SSE"), ("-avx512f,+avx2,+fma,+avx", "AVX2")],
)
def test_the_tile_follows_what_numba_compiles_for(
    features: str, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CPU_FEATURES", features)
    assert vector_extension() == extension
