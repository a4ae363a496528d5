"""One variant, all its seeds, measured on held-out faces and on a sample of the training faces.

`python -m stages.evaluate <variant>` writes reports/metrics/<variant>.json (a row of Table 1),
reports/evaluations/<variant>.csv (every measure of every seed) and data/evaluations/<variant>/
(what figures and paired comparisons need of single images, one file for each wiring).
"""

import csv
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.measure import clarity
from stages.common import memory
from stages.measure import fidelity
from stages.common.errors import PipelineError, exits_cleanly
from stages.common.settings import PUBLISHED, ModelSettings, read_models
from stages.model import network
from stages.data import faces
from stages.model.network import DEPTH, LATENT, SIZE, Autoencoder
from stages.model.losses import level_losses

TRAINING_SAMPLE = 1000
DETECTED = 250  # images behind a detection rate: its 95 % interval is within 6.2 points
NOISE = 100  # images of noise, in which no face should be found
PICTURES, SAMPLES = 12, 16  # kept for the figures
BATCH = 16
HEADLINE = ("error", "mse", "psnr", "ssim")
# Of the authors' wiring: few, as `dvc metrics show` is as wide as it has keys.
PUBLISHED_HEADLINE = ("test_error", "test_error_sd", "train_error", "n")

Values = dict[str, np.ndarray]  # by measure, the first axis of each being the images


class Row(NamedTuple):
    """A measure of one seed: mean over n images and its standard error, nan where unknown."""

    model: str
    seed: int
    split: str
    measure: str
    value: float
    standard_error: float
    n: int


@exits_cleanly
def main(variant: str) -> None:
    started = time.perf_counter()
    memory.keep_freed()
    models = read_models(f"configs/{variant}.yaml")
    folder, kept = Path("models", variant), Path("data/evaluations", variant)
    test, train = read_faces()
    # Similarity indices subtract nearly equal results of convolutions: they need all 24 bits.
    torch.backends.cudnn.allow_tf32 = False

    noise = np.random.default_rng(0).integers(0, 256, (NOISE, SIZE, SIZE, 3), np.uint8)
    references = {"input_faces_found": detect(test), "noise_faces_found": detect(noise)}
    rows: list[Row] = []
    headlines: dict[str, dict[str, float | None]] = {}
    writers = {kept / "curve.csv": partial(shutil.copy, folder / "curve.csv")}
    # Every batch on one thread: the numbers do not depend on how many cores there are.
    with ThreadPoolExecutor(min(8, torch.get_num_threads())) as pool:
        torch.set_num_threads(1)
        for settings in models:
            own, arrays = evaluate(pool, settings, folder, test, train, references)
            rows += own
            headlines[settings.wiring] = headline(own)
            writers[kept / f"{settings.name}.npz"] = partial(write_arrays, arrays)

    published = headlines.get("published", {})
    summary = headlines["described"] | {
        PUBLISHED + key: published.get(key) for key in PUBLISHED_HEADLINE
    }
    writers |= {
        Path(f"reports/metrics/{variant}.json"): partial(write_json, summary),
        Path(f"reports/evaluations/{variant}.csv"): partial(write_table, rows),
    }
    write_all(writers)
    for settings in models:
        told = headlines[settings.wiring]
        print(
            f"{settings.name}: error {told['test_error']:.1f} on {len(test)} held-out images, "
            f"{told['train_error']:.1f} on {len(train)} training images, mean over seeds "
            f"{', '.join(map(str, settings.seeds))}"
        )
    print(f"{variant}: {time.perf_counter() - started:.0f} s")


def evaluate(
    pool: ThreadPoolExecutor,
    settings: ModelSettings,
    folder: Path,
    test: np.ndarray,
    train: np.ndarray,
    references: Values,
) -> tuple[list[Row], Values]:
    """Every measure of a model's seeds, their weights in `folder`; and its arrays for figures.

    test, train: uint8 (n, 128, 128, 3). references: by measure, in which images faces were found.
    """
    rows: list[Row] = []
    on_test, drawn = [], []
    for seed in settings.seeds:
        path = folder / network.weights_file(settings, seed)
        model = network.load(path)[0].to(network.device())
        on_train = in_batches(pool, partial(fidelity, model), train)
        on_test.append(in_batches(pool, partial(everything, model), test))
        check_finite(on_train["error"], path)
        check_finite(on_test[-1]["error"], path)
        rates = {"faces_found": detect(on_test[-1]["pixels"])} | references
        lines = fidelity_lines(on_test[-1]) + level_lines(on_test[-1])
        lines += clarity_lines(on_test[-1]) + rate_lines(rates)
        rows += [Row(settings.name, seed, "test", *line) for line in lines]
        rows += [Row(settings.name, seed, "train", *line) for line in fidelity_lines(on_train)]
        if settings.variational:
            drawn.append(in_batches(pool, partial(sample, model), latents(DETECTED))["pixels"])
            rates = {"faces_found": detect(drawn[-1])}
            rows += [Row(settings.name, seed, "samples", *line) for line in rate_lines(rates)]

    shown = evenly_spaced(len(test), PICTURES)
    return rows, {
        "test_error": np.stack([values["error"] for values in on_test]).astype(np.float32),
        "inputs": test[shown],
        "reconstructions": on_test[0]["pixels"][shown],
        "samples": drawn[0][:SAMPLES] if drawn else test[:0],
        "spectrum": np.stack([values["spectrum"].mean(0) for values in on_test]),
        "input_spectrum": on_test[0]["input_spectrum"].mean(0),
    }


def read_faces() -> tuple[np.ndarray, np.ndarray]:
    """Held-out images and the training sample, uint8 (n, 128, 128, 3)."""
    found = faces.load()
    test, train = found.rows("test"), found.rows("train")
    if not len(test) or not len(train):
        raise PipelineError(
            f"data/faces.csv has {len(test)} test and {len(train)} train rows, and both are "
            "needed; change preprocess.held_out or take more pictures"
        )
    train = train[evenly_spaced(len(train), TRAINING_SAMPLE)]
    return found.images[test], found.images[train]


def evenly_spaced(total: int, count: int) -> np.ndarray:
    """`count` indices from 0 to below `total` at equal distances; all if there are fewer."""
    count = min(count, total)
    return np.arange(count) * total // count


def detect(images: np.ndarray) -> np.ndarray:
    """Whether a face is found, bool, in `DETECTED` of the uint8 images, evenly spaced."""
    return clarity.faces_found(images[evenly_spaced(len(images), DETECTED)])


def latents(count: int) -> Tensor:
    """Standard normal latents (count, 384), the same for every model."""
    return torch.randn(count, LATENT, generator=torch.Generator().manual_seed(0))


def in_batches(
    pool: ThreadPoolExecutor, measure: Callable[..., dict[str, Tensor]], items: np.ndarray | Tensor
) -> Values:
    """What `measure` returns for `items`, batch by batch and several at a time."""
    found: Values = {}

    def run(start: int) -> None:
        for name, value in measure(items[start : start + BATCH]).items():
            part = value.cpu().numpy()
            # Made once and filled: parts kept between the large tensors of two batches would keep
            # the memory of those from being given back.
            if name not in found:
                found.setdefault(name, np.empty((len(items), *part.shape[1:]), part.dtype))
            found[name][start : start + BATCH] = part

    list(pool.map(run, range(0, len(items), BATCH)))
    return found


@torch.inference_mode()
def fidelity(model: Autoencoder, images: np.ndarray) -> dict[str, Tensor]:
    """Error, MSE, PSNR and SSIM (n,) of the reconstructions of uint8 images (n, 128, 128, 3)."""
    inputs = to_device(model, faces.to_tensor(images))
    return compare(model.reconstruct(inputs).contiguous(), inputs)


@torch.inference_mode()
def everything(model: Autoencoder, images: np.ndarray) -> dict[str, Tensor]:
    """All that is measured on the held-out uint8 images (n, 128, 128, 3), by image.

    Beside the measures: `pixels`, the reconstructions as uint8 (n, 128, 128, 3); `spectrum` and
    `input_spectrum` (n, 65); and the parts of the clarity measures that are ratios over all images.
    Clarity is measured on 8 bit reconstructions: as they would be looked at, and as the inputs are.
    """
    inputs = to_device(model, faces.to_tensor(images))
    levels = [inputs]
    for k in range(1, DEPTH + 1):
        levels.append(model.encode_level(k, levels[-1]))
    reconstructions = model.decode(model.code(levels[-1]))
    outputs = reconstructions.contiguous()
    found = compare(outputs, inputs) | {"ms_ssim": fidelity.ms_ssim(outputs, inputs)}
    # In the memory order of what a model returns: subtracting is several times as fast.
    aligned = torch.empty_like(reconstructions).copy_(inputs)
    for k in range(1, DEPTH):
        found[f"depth_error_{k}"] = fidelity.squared_error(model.decode(levels[k], k), aligned)
    found[f"depth_error_{DEPTH}"] = found["error"]
    for k, loss in enumerate(level_losses(model, inputs), start=1):
        # A mean over the batch, given to each of its images: their mean is that over all images.
        found[f"level_mse_{k}"] = loss.expand(len(inputs))

    found["pixels"] = to_pixels(outputs)
    seen = to_device(model, faces.to_tensor(found["pixels"].cpu().numpy()))
    found["colour_shift"] = clarity.colour_shift(seen, inputs)
    for prefix, pictures in (("", seen), ("input_", inputs)):
        power = clarity.power_spectrum(pictures)
        found[f"{prefix}spectrum"] = clarity.radial_spectrum(power)
        high, energy = clarity.high_frequency_energy(power)
        at_grid, around_grid = clarity.grid_energy(power)
        found |= {
            f"{prefix}high": high,
            f"{prefix}energy": energy,
            f"{prefix}at_grid": at_grid,
            f"{prefix}around_grid": around_grid,
            f"{prefix}contrast": clarity.contrast(pictures),
        }
    return found


@torch.inference_mode()
def sample(model: Autoencoder, latent: Tensor) -> dict[str, Tensor]:
    """`pixels`, uint8 (n, 128, 128, 3), decoded from latents (n, 384)."""
    return {"pixels": to_pixels(model.sample(to_device(model, latent)))}


def compare(outputs: Tensor, inputs: Tensor) -> dict[str, Tensor]:
    error = fidelity.squared_error(outputs, inputs)
    mse = error / inputs[0].numel()
    return {
        "error": error,
        "mse": mse,
        "psnr": fidelity.psnr(mse),
        "ssim": fidelity.ssim(outputs, inputs),
    }


def to_device(model: Autoencoder, values: Tensor) -> Tensor:
    return values.to(model.encoder[0].weight.device)


def to_pixels(images: Tensor) -> Tensor:
    """uint8 (n, 128, 128, 3) of images (n, 3, 128, 128) in [0, 1]."""
    return images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


Line = tuple[str, float, float, int]  # measure, value, standard error, n


def mean_lines(values: Values, *names: str) -> list[Line]:
    return [(name, *fidelity.mean(values[name]), len(values[name])) for name in names]


def fidelity_lines(values: Values) -> list[Line]:
    return mean_lines(values, *HEADLINE)


def level_lines(values: Values) -> list[Line]:
    depths = range(1, DEPTH + 1)
    levels = [
        (name, value, float("nan"), n)
        for name, value, _, n in mean_lines(values, *(f"level_mse_{k}" for k in depths))
    ]
    return levels + mean_lines(values, *(f"depth_error_{k}" for k in depths))


def clarity_lines(values: Values) -> list[Line]:
    """See stages/measure/clarity.py for what each is."""
    v = values
    grid = [v["at_grid"] + v["input_around_grid"]], [v["around_grid"] + v["input_around_grid"]]
    ratios = {
        "high_frequency_ratio": ([v["high"], v["input_energy"]], [v["energy"], v["input_high"]]),
        "grid_ratio": grid,
        "contrast_ratio": ([v["contrast"]], [v["input_contrast"]]),
    }
    lines = mean_lines(values, "ms_ssim", "colour_shift")
    return lines + [
        (name, *fidelity.ratio(*parts), len(v["contrast"])) for name, parts in ratios.items()
    ]


def rate_lines(rates: Values) -> list[Line]:
    return [(name, *fidelity.share(found), len(found)) for name, found in rates.items()]


def check_finite(error: np.ndarray, path: Path) -> None:
    if not np.isfinite(error).all():
        raise PipelineError(
            f"{path} reconstructs values that are no numbers: its training diverged; "
            "train it again with a lower lr"
        )


def headline(rows: list[Row]) -> dict[str, float | None]:
    """One model's part of the row of Table 1: means over seeds, and their standard deviations.

    None where a value needs more seeds or images than there are. No key is called "error" alone:
    `dvc metrics show` takes that for a failure to load the file.
    """

    def over_seeds(split: str, measure: str) -> tuple[list[float], list[float]]:
        chosen = [row for row in rows if (row.split, row.measure) == (split, measure)]
        return [row.value for row in chosen], [row.standard_error for row in chosen]

    def deviation(values: list[float]) -> float | None:
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    error, standard_error = over_seeds("test", "error")
    train_error, _ = over_seeds("train", "error")
    found = {
        "test_error": np.mean(error),
        "test_error_sd": deviation(error),
        "test_error_se": np.mean(standard_error) if np.isfinite(standard_error).all() else None,
        **{name: np.mean(over_seeds("test", name)[0]) for name in HEADLINE[1:]},
        "train_error": np.mean(train_error),
        "train_error_sd": deviation(train_error),
    }
    rounded = {name: None if x is None else float(f"{x:.6g}") for name, x in found.items()}
    return rounded | {"n": len(error)}


def write_json(values: dict[str, float | None], path: Path) -> None:
    path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")


def write_table(rows: list[Row], path: Path) -> None:
    """One line a row, six significant digits, nothing where a number is unknown."""

    def text(value: object) -> object:
        if not isinstance(value, float):
            return value
        return "" if np.isnan(value) else f"{value:.6g}"

    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows([text(value) for value in row] for row in rows)


def write_arrays(arrays: Values, path: Path) -> None:
    np.savez_compressed(path, **arrays)


def write_all(writers: dict[Path, Callable[[Path], None]]) -> None:
    """Write every file under another name first, so that either all appear or none."""
    partials = {path: path.with_name(f".partial-{path.name}") for path in writers}
    try:
        for path, write in writers.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write(partials[path])
        for path, unfinished in partials.items():
            os.replace(unfinished, path)
    finally:
        for unfinished in partials.values():
            unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1])
