"""The measures of the table, of one model: on held-out and training faces, and on samples."""

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.common.errors import PipelineError
from stages.data.faces import Faces, to_tensor
from stages.measure import clarity, fidelity
from stages.measure.measures import DETECTED, LEVELS, Measure, Split, measurable
from stages.measure.records import FACES, REFERENCE, References
from stages.measure.statistics import mean as mean_of
from stages.model.network import Autoencoder, device

TRAINING_SAMPLE = 1000
NOISE = 100  # images of noise, in which no face should be found
BATCH = 16

Row = tuple[str, str, float, float, int]  # split, measure, value, standard error, images
Values = dict[str, np.ndarray]  # numbers of every image, the first axis


class Measured(NamedTuple):
    """One seed's part of a `Record`. spectrum: (1, s / 2 + 1). pictures: reconstructions of the
    faces shown. A seed that diverged has no spectrum, pictures and samples."""

    rows: list[Row]
    test_error: np.ndarray
    spectrum: np.ndarray
    pictures: np.ndarray
    samples: np.ndarray


class Pair:
    """Reconstructions and their images, both float (N, 3, s, s) in [0, 1], and what several
    measures need of them, computed once."""

    def __init__(self, outputs: Tensor, images: Tensor) -> None:
        self.outputs, self.images = outputs, images

    @cached_property
    def seen(self) -> Tensor:
        """The reconstructions in 8 bits, as they would be looked at."""
        return self.outputs.mul(255).round().div(255)

    @cached_property
    def pictures(self) -> Tensor:
        return clarity.to_pictures(self.outputs)

    @cached_property
    def spectra(self) -> list[Tensor]:
        return [clarity.spectrum(x) for x in (self.seen, self.images)]

    @cached_property
    def details(self) -> list[Tensor]:
        return [clarity.detail(x) for x in self.spectra]

    @cached_property
    def powers(self) -> list[Tensor]:
        return [clarity.power_of(x) for x in self.spectra]


# By name of the measure: a number an image, or the parts of a ratio, for its `statistic`.
FUNCTIONS: dict[str, Callable[[Pair], Tensor]] = {
    "error": lambda pair: fidelity.squared_error(pair.outputs, pair.images),
    "mse": lambda pair: fidelity.mean_squared_error(pair.outputs, pair.images),
    "psnr": lambda pair: fidelity.psnr(pair.outputs, pair.images),
    "ssim": lambda pair: fidelity.ssim(pair.outputs, pair.images),
    "ms_ssim": lambda pair: fidelity.ms_ssim(pair.outputs, pair.images),
    "high_frequency_ratio": lambda pair: clarity.high_frequency_ratio(*pair.powers),
    "sharpness": lambda pair: clarity.high_frequency_ratio(*pair.powers),
    "coherence": lambda pair: clarity.coherence(*pair.details),
    "detail_explained": lambda pair: clarity.unexplained_detail(*pair.details),
    "grid_ratio": lambda pair: clarity.grid_ratio(*pair.powers),
    "colour_shift": lambda pair: clarity.colour_shift(pair.seen, pair.images),
    "contrast_ratio": lambda pair: clarity.contrast_ratio(pair.seen, pair.images),
    "faces_found": lambda pair: torch.from_numpy(clarity.detect(pair.pictures.cpu().numpy())),
}
FUNCTIONS |= {f"depth_error_{k}": FUNCTIONS["error"] for k in range(1, LEVELS + 1)}


@contextmanager
def threads() -> Iterator[Executor]:
    """Threads for batches, each on one core: the numbers do not depend on how many there are."""
    # Similarity indices subtract nearly equal results of convolutions: they need all 24 bits.
    torch.backends.cudnn.allow_tf32 = False
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(8, cores)) as pool:
            yield pool
    finally:
        torch.set_num_threads(cores)


def measured_faces(faces: Faces) -> tuple[np.ndarray, np.ndarray]:
    """Held-out images and a sample of the training images, uint8 (n, s, s, 3)."""
    test, train = faces.rows("test"), faces.rows("train")
    if not len(test) or not len(train):
        raise PipelineError(
            f"data/faces.csv has {len(test)} test and {len(train)} train rows, and both are "
            "needed; change preprocess.held_out or take more pictures"
        )
    return faces.images[test], faces.images[train[evenly_spaced(len(train), TRAINING_SAMPLE)]]


def measure(pool: Executor, model: Autoencoder, test: np.ndarray, train: np.ndarray) -> Measured:
    """Every measure of one model; test, train: uint8 (n, s, s, 3)."""
    measures = measurable(model.size, model.depth)
    on_test, on_train, on_samples = (
        [m for m in measures if split in m.splits] for split in ("test", "train", "samples")
    )
    of_all = [m for m in on_test if m.images is None]
    seen = in_batches(pool, partial(look, model, of_all, pictures=True), test)
    rows = _rows("test", of_all, seen)
    for one in on_test:
        if one.images is not None:
            chosen = evenly_spaced(len(test), one.images)
            rows += of_pictures(pool, "test", [one], seen["pictures"][chosen], test[chosen])
    rows += _rows("train", on_train, in_batches(pool, partial(look, model, on_train), train))
    drawn = test[:0]
    if model.settings.variational:
        codes = latents(DETECTED, model.latent)
        drawn = in_batches(
            pool, lambda part: {"": clarity.to_pictures(model.sample(part.to(device())))}, codes
        )[""]
        rows += of_pictures(pool, "samples", on_samples, drawn, drawn)
    return Measured(
        rows=rows,
        test_error=seen["error"],
        spectrum=seen["spectrum"].mean(0, keepdims=True),
        pictures=seen["pictures"][shown(test)],
        samples=drawn[: min(FACES, len(test))],  # a row of a grid, as the pictures
    )


def diverged_measures(test: np.ndarray, train: np.ndarray) -> Measured:
    """What stands for a model without weights: an infinite error, and no pictures."""
    splits = (("test", test), ("train", train))
    rows = [(split, "error", np.inf, np.nan, len(images)) for split, images in splits]
    spectrum = np.empty((0, test.shape[1] // 2 + 1))
    return Measured(rows, np.full(len(test), np.inf), spectrum, test[:0], test[:0])


def measure_references(pool: Executor, test: np.ndarray, train: np.ndarray) -> References:
    """Measures of the held-out images, of noise and of the mean of the training images.

    test, train: uint8 (n, s, s, 3).
    """
    noise = np.random.default_rng(0).integers(0, 256, (NOISE, *test.shape[1:]), np.uint8)
    rows = []
    for one in measurable(test.shape[1]):
        if "samples" not in one.splits:
            continue
        chosen = test[evenly_spaced(len(test), one.images or len(test))]
        for of, pictures in (("input", chosen), ("noise", noise)):
            for _, *row in of_pictures(pool, "samples", [one], pictures, pictures):
                rows.append((of, *row))
    mean = torch.tensor(train.mean(0) / 255, dtype=torch.float32, device=device()).movedim(-1, 0)

    def numbers(images: np.ndarray) -> dict[str, Tensor]:
        inputs = _tensor(images)
        spectra = clarity.radial(clarity.power_of(clarity.spectrum(inputs)))
        return {"error": fidelity.squared_error(mean.expand_as(inputs), inputs), "spectra": spectra}

    of_test = in_batches(pool, numbers, test)
    rows.append(("mean", "error", *mean_of(of_test["error"]), len(test)))
    table = pd.DataFrame(rows, columns=[*REFERENCE]).set_index(["of", "measure"])
    return References(test[shown(test)], of_test["spectra"].mean(0), table)


def shown(test: np.ndarray) -> np.ndarray:
    """Which of the held-out images are shown, the same of every model."""
    return evenly_spaced(len(test), FACES)


def evenly_spaced(total: int, count: int) -> np.ndarray:
    """`count` indices from 0 to below `total` at equal distances; all if there are fewer."""
    count = min(count, total)
    return np.arange(count) * total // count


def latents(count: int, numbers: int) -> Tensor:
    """Standard normal latents (count, numbers), the same for every model."""
    return torch.randn(count, numbers, generator=torch.Generator().manual_seed(0))


def in_batches(
    pool: Executor, function: Callable[..., Mapping[str, Tensor]], *items: np.ndarray | Tensor
) -> Values:
    """What `function` returns for `items`, several batches at a time, without gradients."""
    found: Values = {}
    count = len(items[0])

    @torch.inference_mode()
    def run(start: int) -> None:
        batch = (each[start : start + BATCH] for each in items)
        for name, value in function(*batch).items():
            part = value.cpu().numpy()
            # Made once and filled: parts kept between the large tensors of two batches would keep
            # the memory of those from being given back.
            if name not in found:
                found.setdefault(name, np.empty((count, *part.shape[1:]), part.dtype))
            found[name][start : start + BATCH] = part

    list(pool.map(run, range(0, count, BATCH)))
    return found


def look(
    model: Autoencoder, measures: Collection[Measure], images: np.ndarray, pictures: bool = False
) -> dict[str, Tensor]:
    """The numbers behind `measures`, for each of the uint8 images (n, s, s, 3). With `pictures`
    also the reconstructions, uint8 too, and their `spectrum` (n, s / 2 + 1)."""
    inputs = _tensor(images)
    levels = [inputs]
    for k in range(1, model.depth + 1):
        levels.append(model.encode_level(k, levels[-1]))
    found: dict[str, Tensor] = {}
    depths = {one.name: one.depth or model.depth for one in measures}
    for depth in sorted({*depths.values()}):
        code = model.code(levels[depth]) if depth == model.depth else levels[depth]
        pair = Pair(model.decode(code, depth).contiguous(), inputs)
        found |= {name: FUNCTIONS[name](pair) for name, own in depths.items() if own == depth}
    if pictures:
        found |= {"pictures": pair.pictures, "spectrum": clarity.radial(pair.powers[0])}
    return found


def of_pictures(
    pool: Executor,
    split: Split,
    measures: Collection[Measure],
    pictures: np.ndarray,
    images: np.ndarray,
) -> list[Row]:
    """Measures of pictures beside their images, both uint8 (n, s, s, 3)."""

    def numbers(pictures: np.ndarray, images: np.ndarray) -> dict[str, Tensor]:
        pair = Pair(_tensor(pictures), _tensor(images))
        return {one.name: FUNCTIONS[one.name](pair) for one in measures}

    return _rows(split, measures, in_batches(pool, numbers, pictures, images))


def _rows(split: Split, measures: Collection[Measure], values: Values) -> list[Row]:
    return [
        (split, one.name, *one.statistic(values[one.name]), len(values[one.name]))
        for one in measures
    ]


def _tensor(images: np.ndarray) -> Tensor:
    return to_tensor(images).to(device())
