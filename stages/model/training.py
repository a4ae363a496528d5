"""Train one model with one seed: readable top to bottom, the same code for every variant.

Ten epochs of 12,166 faces, 3,800 steps, end at a held-out error of 230 ± 26 (recursive) and
256 ± 13 (stacked), with averaged weights 189 ± 12 and 234 ± 14: mean and standard deviation of ten
seeds. On a core of an AMD EPYC with AVX-512 a step takes 25 and 30 ms, all of it two minutes.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from stages.common.errors import PipelineError
from stages.common.settings import Training
from stages.data.faces import Faces, to_tensor
from stages.kernels.operations import kernels_on
from stages.kernels.pixels import gather_pixels
from stages.model.averaging import Average
from stages.model.losses import parts
from stages.model.network import Autoencoder, device, state
from stages.model.replay import Replayed

RECALIBRATING = 50  # at most so many batches are behind the norms' statistics of averaged weights
AVERAGED = 10  # averaged weights are those of the last tenth of a training's steps at most


class CurvePoint(NamedTuple):
    """One point of a training curve: `value` of `loss` after `epoch` (1 is the first).

    Split `train`: the mean over the epoch's batches, of each of `losses` and of their sum `total`.
    Split `test`: `error`, the held-out reconstruction error in the paper's unit with the weights of
    the last step, and `averaged_error`, with their average.
    """

    epoch: int
    split: str
    loss: str
    value: float


class Diverged(Exception):
    """A loss that is no number any more: which, when, and the last finite total."""

    def __init__(self, epoch: int, loss: str, value: float, last_finite: float | None) -> None:
        super().__init__(
            f"{loss} became {value} in epoch {epoch} (the last finite total: {last_finite})"
        )
        self.epoch, self.loss, self.value, self.last_finite = epoch, loss, value, last_finite


class Trainer:
    """One training, epoch by epoch, on the GPU where there is one.

    The paper's recipe: Adam, batches of `batch_size`, the last partial batch of an epoch dropped,
    as its single image would leave a norm at 1x1 without a variance. As described the faces are the
    training split, shuffled. One CPU thread, so that the same seed gives the same weights, bit for
    bit, whatever runs beside it.

    `model` holds the weights of the last step, `average.model` their average, `curve` the points of
    the `epoch` epochs done.
    """

    def __init__(self, training: Training, faces: Faces, position: int = 0) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(training.seed)
        settings = self.settings = training.settings
        self.shuffle = np.random.default_rng(training.seed)
        self.batches = Batches(faces, device())
        self.model = Autoencoder(settings).to(self.batches.device)
        if self.model.size != (size := faces.images.shape[1]):
            raise PipelineError(
                f"the faces have {size} pixels a side, the model {self.model.size}; run `dvc repro`"
            )
        self.in_file_order = self.model.accidents.every_face_in_file_order
        self.rows = faces.rows("all" if self.in_file_order else "train")
        self.held_out = faces.rows("test")
        self.steps = len(self.rows) // settings.batch_size
        self.on_gpu = self.batches.device.type != "cpu"
        self.learning_rate = torch.tensor(settings.lr, device=self.batches.device)
        self.optimizer = torch.optim.Adam(
            [parameter for parameter in self.model.parameters() if parameter.requires_grad],
            lr=self.learning_rate if self.on_gpu else settings.lr,
            eps=1e-7,
            fused=True,
            capturable=self.on_gpu,
        )
        self.total = settings.epochs * self.steps
        longest = max(0.0, 1 - AVERAGED / max(1, self.total))
        self.average = Average(self.model, min(settings.averaging, longest))
        self.batch = torch.zeros(settings.batch_size, dtype=torch.long, device=self.batches.device)
        self.stacked: bool | None = None  # whether the present steps are
        self.take_step: Callable[[], None] = self._step
        self.sums: dict[str, Tensor] = defaultdict(
            lambda: torch.zeros((), device=self.batches.device)
        )
        self.curve: list[CurvePoint] = []
        self.epoch = 0
        self.last_finite: float | None = None
        self.label, self.position = f"{settings.training}, seed {training.seed}", position

    def run_epoch(self) -> None:
        """One pass through the faces. Raises Diverged where a loss stops being a number."""
        done, self.epoch = self.epoch, self.epoch + 1
        stacked = self.epoch > self.settings.epochs - self.settings.stacked_epochs
        if stacked != self.stacked:
            self.stacked = stacked
            self.sums.clear()
            self.take_step = Replayed(self._step) if self.on_gpu else self._step
        self.model.train()
        for value in self.sums.values():
            value.zero_()
        order = self.rows if self.in_file_order else self.shuffle.permutation(self.rows)
        size = self.settings.batch_size
        rows = torch.from_numpy(order[: self.steps * size]).to(self.batches.device)
        label = f"{self.label}, epoch {self.epoch} of {self.settings.epochs}"
        with tqdm(
            total=len(rows), desc=label, unit=" images", position=self.position, disable=None
        ) as progress:
            for number, chosen in enumerate(torch.split(rows, size), start=done * self.steps):
                self._set_learning_rate(number)
                self.batch.copy_(chosen)
                self.take_step()
                progress.update(size)
        values = {name: value.item() / self.steps for name, value in self.sums.items()}
        self._check(values["total"], values)
        self.average.recalibrate(self.recalibrating(), stacked)
        points = [("train", name, value) for name, value in values.items()]
        for name, model in (("error", self.model), ("averaged_error", self.average.model)):
            points.append(("test", name, held_out_error(model, self.batches, self.held_out)))
        self.curve += [CurvePoint(self.epoch, *point) for point in points]

    def recalibrating(self) -> Iterator[Tensor]:
        """Batches of training images, evenly spaced, for `Average.recalibrate`."""
        images = min(RECALIBRATING, self.steps) * self.settings.batch_size
        rows = torch.from_numpy(self.rows[np.arange(images) * len(self.rows) // images])
        return map(self.batches, torch.split(rows, self.settings.batch_size))

    def _step(self) -> None:
        self.optimizer.zero_grad()
        found: dict[str, Tensor] = {}
        for part in parts(self.model, self.batches(self.batch), self.stacked or False):
            torch.autograd.backward(list(part.values()))
            if self.settings.separate_steps:
                self.optimizer.step()
                self.optimizer.zero_grad()
            found |= {name: loss.detach() for name, loss in part.items()}
        found["total"] = sum(found.values(), torch.zeros((), device=self.batches.device))
        if not self.on_gpu:  # there it would wait for every step
            self._check(found["total"].item(), found)
        self.optimizer.step()
        self.average.update()
        for name, value in found.items():
            self.sums[name] += value

    def _check(self, total: float, parts: Mapping[str, Tensor | float]) -> None:
        if math.isfinite(total):
            self.last_finite = total
            return
        values = ((k, v.item() if isinstance(v, Tensor) else v) for k, v in parts.items())
        name, value = next((k, v) for k, v in values if not math.isfinite(v))
        raise Diverged(self.epoch, name, value, self.last_finite)

    def _set_learning_rate(self, step: int) -> None:
        if self.settings.schedule != "constant":
            done = step / self.total
            linear = self.settings.schedule == "linear"
            factor = min(2, 6 * (1 - done)) if linear else 1 + math.cos(math.pi * done)
            lr = self.settings.lr * factor / 2
            if self.on_gpu:  # a replayed step reads it from memory
                self.learning_rate.fill_(lr)
            else:
                self.optimizer.param_groups[0]["lr"] = lr

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next epoch depends on: tensors, and what JSON can hold."""
        tensors = {f"model.{name}": value for name, value in state(self.model).items()}
        tensors |= {f"average.{name}": v for name, v in state(self.average.model).items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value for name, value in values.items()}
        tensors["random"] = torch.get_rng_state()
        if self.on_gpu:
            tensors["random_gpu"] = torch.cuda.get_rng_state()
        return tensors, {
            "epoch": self.epoch,
            "averaging": self.average.decay,
            "curve": self.curve,
            "last_finite": self.last_finite,
            "shuffle": self.shuffle.bit_generator.state,
        }

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go on from what `state` gave; not where the average of a whole training of that length
        has another decay, but from the start."""
        if values["averaging"] != self.average.decay:
            return
        adam: dict[int, dict[str, Tensor]] = defaultdict(dict)
        ours = {
            "model": state(self.model),
            "average": state(self.average.model),
        }
        with torch.no_grad():
            for name, value in tensors.items():
                kind, _, rest = name.partition(".")
                if kind in ours:
                    ours[kind][rest].copy_(value)
                elif kind == "adam":
                    index, _, key = rest.partition(".")
                    adam[int(index)][key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": dict(adam), "param_groups": groups})
        if self.on_gpu:  # it has put a copy there
            self.optimizer.param_groups[0]["lr"] = self.learning_rate
        self.average.started = True
        self.epoch = values["epoch"]
        self.curve = [CurvePoint(*point) for point in values["curve"]]
        self.last_finite = values["last_finite"]
        self.shuffle.bit_generator.state = values["shuffle"]
        torch.set_rng_state(tensors["random"])
        if self.on_gpu:
            torch.cuda.set_rng_state(tensors["random_gpu"])


@torch.inference_mode()
def held_out_error(model: Autoencoder, batches: "Batches", rows: np.ndarray) -> float:
    """Squared error summed over an image's values, mean over the faces of `rows`."""
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=batches.device)
    for start in range(0, len(rows), 64):
        images = batches(torch.from_numpy(rows[start : start + 64]))
        total += (model(images) - images).square().sum()
    return total.item() / len(rows)


class Batches:
    """Faces by their rows, (n,3,size,size) float in [0,1] on `device`.

    On a GPU all faces go there once, as bytes, so that no batch waits for the host. On the CPU they
    stay in the file, which every process on the machine maps into the same memory.
    """

    def __init__(self, faces: Faces, device: torch.device) -> None:
        self.device = device
        self.faces = faces.images
        self.copy: Tensor | None = None
        if device.type != "cpu":
            self.copy = torch.from_numpy(np.ascontiguousarray(faces.images)).to(device)

    def __call__(self, rows: Tensor) -> Tensor:
        if self.copy is None:
            if not kernels_on():
                return to_tensor(self.faces[rows.numpy()])
            images = torch.empty(3, *self.faces.shape[1:3], len(rows))
            gather_pixels(self.faces, rows.numpy(), images.numpy())
            return images.permute(3, 0, 1, 2)
        return self.copy[rows.to(self.device)].permute(0, 3, 1, 2).float() / 255
