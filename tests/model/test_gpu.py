"""What a GPU asks of a training. Where there is none, by what stands in for one: a graph that
repeats a step's operations on the same memory, and a device that has no values to wait for.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stages.common.settings import Training
from stages.data.faces import Faces
from stages.kernels.operations import SWITCH
from stages.model import side_by_side, training
from stages.model.network import DEVICE, Autoencoder
from stages.model.replay import Replayed
from stages.model.training import Batches, Diverged, Trainer
from tests.conftest import small
from tests.model.test_training import same, trained, trainer, weights

# What waits for a GPU: item(), float(), bool(); in inference mode the second.
READS = torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default
SHORT: dict[str, Any] = {"epochs": 3, "batch_size": 8}  # fifteen steps
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
every_kind = pytest.mark.parametrize(
    "changes",
    [
        {"norm": "tied", "training": "joint"},
        {"variational": True},
        {"schedule": "cosine", "stacked_epochs": 1},
        {"norm": "batch", "implementation": "released"},
        {"norm": "shared", "reach": 2},
    ],
    ids=str,
)


def tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class Graph(TorchDispatchMode):
    """Captures operations on tensors as torch.cuda.CUDAGraph does, and repeats them likewise.

    What Python does beside them happens once, when they are captured, and a value that it reads is
    an error. Other than there, they are also done while they are captured, and not when they are
    replayed the first time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Callable[[], object], object]] = []
        self.replays = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if function in READS:
            raise RuntimeError("operation not permitted when stream is capturing")
        found = function(*args, **(kwargs or {}))
        self.operations.append((lambda: function(*args, **(kwargs or {})), found))
        return found

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        if self.replays == 1:
            return
        for operation, memory in self.operations:
            for before, now in zip(tensors(memory), tensors(operation()), strict=True):
                if before.data_ptr() != now.data_ptr():
                    before.copy_(now)


def always(value: bool) -> property:
    """An attribute that keeps its value whatever it is set to."""
    return property(lambda _: value, lambda *_: None)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Graph]]:
    """The code that runs on a GPU runs on the CPU; every graph that it captured."""
    found: list[Graph] = []
    monkeypatch.setenv(SWITCH, "0")
    monkeypatch.setattr(Trainer, "on_gpu", always(True), raising=False)
    made = Batches.__init__

    def copied(batches: Batches, faces: Faces, device: torch.device) -> None:
        made(batches, faces, device)
        batches.copy = torch.from_numpy(faces.images)

    monkeypatch.setattr(Batches, "__init__", copied)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: found.append(Graph()) or found[-1])
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: graph)
    monkeypatch.setattr(torch.cuda, "Stream", Mock())
    monkeypatch.setattr(torch.cuda, "current_stream", Mock())
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    yield found


@every_kind
def test_replayed_steps_are_the_steps(
    faces: Faces, changes: dict[str, Any], graphs: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte; and, but for rounding (0.0007), those of a training that knows of no GPU."""
    replayed = trained(faces, **SHORT, **changes)
    steps = 3 * replayed.steps
    assert sum(graph.replays for graph in graphs) == steps - len(graphs) * Replayed.EAGER
    monkeypatch.setattr(training, "Replayed", lambda step: step)
    plain = trained(faces, **SHORT, **changes)
    assert same(replayed.model, plain.model)
    assert same(replayed.average.model, plain.average.model)
    assert replayed.curve == plain.curve
    assert all(group["capturable"] for group in replayed.optimizer.param_groups)
    monkeypatch.setattr(Trainer, "on_gpu", always(False))
    wanted = [point.value for point in trained(faces, **SHORT, **changes).curve]
    assert [point.value for point in replayed.curve] == pytest.approx(wanted, rel=1e-2)


def test_a_training_goes_on_to_the_same_bytes(
    faces: Faces, graphs: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = SHORT | {"norm": "shared", "variational": True, "schedule": "cosine"}
    random, restored = torch.arange(16, dtype=torch.uint8), Mock()
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: random)
    monkeypatch.setattr(torch.cuda, "set_rng_state", restored)
    whole = trained(faces, **changes)
    begun = trainer(faces, **changes)
    for _ in range(2):
        begun.run_epoch()
    state = begun.state()
    resumed = trainer(faces, **changes)
    resumed.restore(*state)
    resumed.run_epoch()
    assert graphs[-1].replays > 0
    assert restored.call_args.args[0].equal(random)
    assert same(resumed.model, whole.model)
    assert same(resumed.average.model, whole.average.model)
    assert resumed.curve == whole.curve


def test_a_step_that_cannot_be_captured_is_taken_all_the_same(
    faces: Faces,
    graphs: list[Graph],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = trained(faces, **SHORT)
    ours = training.parts

    def waiting(model: Autoencoder, images: Tensor, *stacked: bool) -> Iterator[dict[str, Tensor]]:
        assert images.sum().item() > 0
        return ours(model, images, *stacked)

    monkeypatch.setattr(training, "parts", waiting)
    assert same(trained(faces, **SHORT).model, expected.model)
    assert [graph.replays for graph in graphs] == [12, 0]
    assert capsys.readouterr().err == (
        "training goes on without replayed steps (operation not permitted when stream is "
        "capturing)\n"
    )


def test_a_loss_that_is_no_number_ends_the_training(faces: Faces, graphs: list[Graph]) -> None:
    made = trainer(faces, **SHORT)
    for _ in range(2):
        made.run_epoch()
    (*_, total) = (p.value for p in made.curve if p.loss == "total")
    with torch.no_grad():
        made.model.decoder[3].bias[0] = torch.nan
    with pytest.raises(Diverged) as caught:
        made.run_epoch()
    assert graphs[0].replays > 0
    assert (caught.value.epoch, caught.value.loss) == (3, "level_4")
    assert caught.value.last_finite == total


class Meta(TorchDispatchMode):
    """Sees operations on the device meta, which has no values: 1 stands for each that is read.

    read: how often. moved: how many operations had tensors of another device, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.moved = self.read = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        given = {tensor.device.type for tensor in tensors((args, kwargs))}
        if "meta" in given and function in READS:
            self.read += 1
            return 1.0
        if function is torch.ops.aten._fused_adam_.tensor_lr:  # not known there
            found = None
        else:
            found = function(*args, **(kwargs or {}))
        self.moved += len(given | {tensor.device.type for tensor in tensors(found)}) > 1
        return found


@every_kind
def test_a_step_waits_for_nothing_and_moves_nothing(
    faces: Faces, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "device", lambda: torch.device("meta"))
    adam = import_module("torch.optim.adam")
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_: None)
    seen: dict[int, set[tuple[int, int]]] = defaultdict(set)  # by epoch, before and after steps

    def watched(step: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            seen[made.epoch].add((mode.read, mode.moved))
            with patch.object(torch, "tensor", side_effect=AssertionError("a value to be moved")):
                step()
            seen[made.epoch].add((mode.read, mode.moved))

        return call

    monkeypatch.setattr(training, "Replayed", watched)
    with Meta() as mode:
        made = trainer(faces, **SHORT, **changes)
        for _ in range(3):
            made.run_epoch()
    assert [len(counts) for counts in seen.values()] == [1, 1, 1]
    assert len(set.union(*seen.values())) == 3  # the rest of an epoch reads and moves


@pytest.mark.parametrize(
    ("free", "cores", "workers"), [(1, 16, 1), (9, 16, 4), (8, 16, 3), (70, 16, 16), (70, 2, 2)]
)
def test_a_gpu_carries_as_many_trainings_as_its_memory(
    faces: Faces,
    free: int,
    cores: int,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """free: GiB. A training takes two beside the faces."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(side_by_side.faces, "load", lambda: faces)
    monkeypatch.setattr(side_by_side, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free * 2**30, 80 * 2**30))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    run = Mock(side_effect=InterruptedError)
    monkeypatch.setattr(side_by_side, "run_each", run)
    wanted = [Training(settings=small(), seed=seed, faces=faces.hash) for seed in range(20)]
    with pytest.raises(InterruptedError):
        side_by_side.obtain_all(wanted)
    assert run.call_args.args[1] == workers


@gpu
@pytest.mark.parametrize(
    "changes", [{"norm": "shared"}, {"variational": True}, {"schedule": "cosine"}], ids=str
)
def test_steps_replayed_on_a_gpu_are_the_steps(
    faces: Faces,
    changes: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(DEVICE, "cuda")
    replayed = trained(faces, epochs=4, **changes)
    assert "without replayed steps" not in capsys.readouterr().err
    monkeypatch.setattr(training, "Replayed", lambda step: step)
    plain = trained(faces, epochs=4, **changes)
    found = [point.value for point in replayed.curve]
    assert found == pytest.approx([point.value for point in plain.curve], rel=1e-3)
    ours, theirs = (weights(it.model) + weights(it.average.model) for it in (replayed, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


@gpu
def test_a_training_resumed_on_a_gpu_keeps_to_its_schedule(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEVICE, "cuda")
    begun = trainer(faces, epochs=2, schedule="cosine")
    begun.run_epoch()
    resumed = trainer(faces, epochs=2, schedule="cosine")
    resumed.restore(*begun.state())
    resumed.run_epoch()
    assert 0 < float(resumed.optimizer.param_groups[0]["lr"]) < 0.0005
