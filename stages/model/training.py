"""Train one model with one seed: readable top to bottom, the same code for every variant."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from stages.common.errors import PipelineError
from stages.common.settings import ModelSettings
from stages.kernels import compiled
from stages.model.network import SIZE, Autoencoder, device
from stages.data.faces import Faces
from stages.model.losses import losses

PIXEL_VALUES = 3 * SIZE * SIZE


@dataclass(frozen=True)
class CurvePoint:
    """One point of a training curve: `value` of `loss` after `epoch` (1 is the first).

    Split `train`: the mean over the epoch's batches, of each of `losses` and of their sum `total`.
    Split `test`: `error`, the held-out reconstruction error in the paper's unit.
    """

    model: str
    seed: int
    epoch: int
    split: str
    loss: str
    value: float


def train(
    settings: ModelSettings, seed: int, faces: Faces, position: int = 0
) -> tuple[Autoencoder, list[CurvePoint]]:
    """The trained model, on the device it was trained on, and its training curve.

    The paper's recipe: Adam, batches of `batch_size`, the last partial batch of an epoch dropped,
    as its single image would leave a norm at 1x1 without a variance. As released the
    pictures are all there are, held-out ones too, in file order; otherwise the training split,
    shuffled. One CPU thread, so that the same seed gives the same weights, bit for bit, whatever
    runs beside it. `position` is the progress bar's line. Raises PipelineError where there are
    fewer pictures than a batch, or the loss stops being a number.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    released = settings.implementation == "released"
    rows = faces.rows("all" if released else "train")
    steps = len(rows) // settings.batch_size
    if not steps:
        raise PipelineError(
            f"{len(rows)} pictures to train on are fewer than a batch of {settings.batch_size}; "
            "lower train.batch_size or use more pictures"
        )
    batches = Batches(faces, device())
    model = Autoencoder(settings).to(batches.device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    on_gpu = batches.device.type != "cpu"
    optimizer = torch.optim.Adam(trained, lr=settings.lr, eps=1e-7, fused=True, capturable=on_gpu)
    batch = torch.zeros(settings.batch_size, dtype=torch.long, device=batches.device)
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=batches.device))

    def step() -> None:
        parts = losses(model, batches(batch))
        total = sum(parts.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        for name, value in (parts | {"total": total}).items():
            sums[name] += value.detach()

    take_step = Replayed(step) if on_gpu else step
    curve: list[CurvePoint] = []
    progress = tqdm(
        total=settings.epochs * steps * settings.batch_size,
        desc=f"{settings.name} seed {seed}",
        unit=" images",
        unit_scale=True,
        position=position,
        disable=None,
    )
    for epoch in range(1, settings.epochs + 1):
        model.train()
        for value in sums.values():
            value.zero_()
        epoch_rows = rows if released else order.permutation(rows)
        epoch_rows = torch.from_numpy(epoch_rows[: steps * settings.batch_size]).to(batch.device)
        for chosen in epoch_rows.split(settings.batch_size):
            batch.copy_(chosen)
            take_step()
            progress.update(settings.batch_size)
        values = {name: value.item() / steps for name, value in sums.items()}
        if not np.isfinite(values["total"]):
            raise PipelineError(
                f"{settings.name}, seed {seed}: the loss is {values['total']} in epoch {epoch}; "
                f"lower its learning rate (lr: {settings.lr})"
            )
        points = [("train", name, value) for name, value in values.items()]
        points.append(("test", "error", held_out_error(model, batches, faces.rows("test"))))
        curve += [CurvePoint(settings.name, seed, epoch, *point) for point in points]
        progress.set_postfix(held_out_error=f"{points[-1][2]:.0f}")
    progress.close()
    return model, curve


def held_out_error(model: Autoencoder, batches: "Batches", rows: np.ndarray) -> float:
    """Squared error summed over an image's 49,152 values, mean over the faces of `rows`."""
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=batches.device)
    with torch.inference_mode():
        for start in range(0, len(rows), 64):
            images = batches(torch.from_numpy(rows[start : start + 64]))
            total += (model.reconstruct(images) - images).square().sum()
    return total.item() / len(rows)


class Batches:
    """Faces by their rows, (n,3,128,128) float in [0,1] on `device`.

    On a GPU all faces go there once, as bytes, so that no batch waits for the host. On the CPU they
    stay in the file, which every process on the machine maps into the same memory.
    """

    def __init__(self, faces: Faces, device: torch.device) -> None:
        self.device = device
        self.faces = faces.images
        if device.type != "cpu":
            self.faces = torch.from_numpy(np.ascontiguousarray(faces.images)).to(device)

    def __call__(self, rows: Tensor) -> Tensor:
        if self.device.type == "cpu":
            images = torch.empty(3, SIZE, SIZE, len(rows))
            compiled.gather_pixels(self.faces, rows.numpy(), images.numpy())
            return images.permute(3, 0, 1, 2)
        return self.faces[rows.to(self.device)].permute(0, 3, 1, 2).float() / 255


class Replayed:
    """A function of no arguments on a GPU, from its fourth call on replayed as one graph.

    A step launches hundreds of small kernels, and launching them takes longer than they run. The
    first calls run on a stream of their own, as capturing a graph demands of whatever it captures.
    """

    EAGER = 3

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.calls = 0
        self.stream, self.graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()

    def __call__(self) -> None:
        if self.calls < self.EAGER:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.function()
            torch.cuda.current_stream().wait_stream(self.stream)
        else:
            if self.calls == self.EAGER:
                with torch.cuda.graph(self.graph):
                    self.function()
            self.graph.replay()
        self.calls += 1
