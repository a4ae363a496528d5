"""Can the decoders make new faces, when they are asked where training faces lie?

`python -m studies.latents` fits densities to the latents of the training faces after
training (Ghosh et al. 2020, "From Variational to Deterministic Autoencoders": ex-post density
estimation): a Gaussian with full covariance and a mixture of ten. Latents drawn from these, and
from the standard normal of variational models, are decoded with averaged weights. Results go to
reports/studies/latents.csv, .md and .png.
"""

import sys
import warnings
from functools import partial

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.nn import functional

from stages.common import memory
from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.data import faces
from stages.data.faces import to_tensor
from stages.measure import clarity, compute
from stages.measure.measures import MEASURES
from stages.model import checkpoint, store
from stages.model.network import Autoencoder, device
from stages.report.sheets import Block, sheet
from stages.report.studies import short_hash
from studies.shared import BATCH, CLARITY, batches, markdown, spread, write

MODELS = ("stacked", "recursive", "recursive_shared_bn", "stacked_vae", "recursive_vae")
SAMPLES = 250
SHOWN = 4
COMPONENTS = {"Gaussian": 1, "mixture": 10}
SMALL = 32  # pixels a side, where faces are compared: there a blurred one is not nearer to all
HELD_OUT = "reconstructions"  # of held-out faces: how near to a training face a new one may be
# nearest: median distance to the nearest training face, root mean square over the values of 32x32
# pixels in [0, 1]. copies: the fraction that is nearer than 99 % of the reconstructions of held-out
# faces are; 0.01 is what new people have.
MEASURED = ("faces_found", "high_frequency_ratio", "grid_ratio", "nearest", "copies")
TABLE = ("faces", "variant", "seed", "density", "samples", *MEASURED)


@entry_point
def main() -> None:
    memory.keep_freed()
    people = faces.load()
    train = people.images[people.rows("train")]
    held_out = spread(people, "test", SAMPLES)
    nearby = _small(train)
    of = short_hash(people.hash)
    rows = [(of, "", 0, "held-out faces", len(held_out), *measured(held_out, held_out, nearby))]
    pictures: list[list[Block | None]] = []
    for name in MODELS:
        shown: list[Block | None] = []
        for folder, training in store.trained(name, people.hash):
            path, seed = folder / "averaged.safetensors", training.seed
            model = checkpoint.load_trained(path, training, "averaged").to(device())
            made = draw(model, train, held_out)
            reach = _distances(made[HELD_OUT], nearby)
            for density, drawn in made.items():
                values = measured(drawn, held_out, nearby, reach)
                rows.append((of, name, seed, density, len(drawn), *values))
                print(f"{name}, seed {seed}, {density}: faces {values[0]:.0%}", flush=True)
            if not shown:
                shown = [(name, density, drawn[None, :SHOWN]) for density, drawn in made.items()]
        pictures.append(shown)
    if not any(pictures):
        raise PipelineError(f"all trainings of {', '.join(MODELS)} diverged")
    table = pd.DataFrame(rows, columns=[*TABLE])
    whole = sheet([row for row in pictures if row]).reduce(2)
    picture = whole.quantize(256, dither=Image.Dither.NONE)
    write("latents", table, told(table, len(train)), partial(picture.save, optimize=True))


@torch.inference_mode()
def draw(model: Autoencoder, train: np.ndarray, held_out: np.ndarray) -> dict[str, np.ndarray]:
    """By density, pictures uint8 (n, 128, 128, 3) decoded from it; and reconstructions."""
    codes = torch.cat([model.encode(batch).flatten(1) for batch in batches(train)]).cpu().numpy()
    drawn = {
        density: torch.from_numpy(fit(codes, components).sample(SAMPLES)[0]).float()
        for density, components in COMPONENTS.items()
    }
    # A mixture's samples come component by component.
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(0))
    drawn = {density: latent[order] for density, latent in drawn.items()}
    if model.settings.variational:
        drawn["standard normal"] = compute.latents(SAMPLES, model.latent)
    found = {HELD_OUT: [model(batch) for batch in batches(held_out)]}
    for density, latent in drawn.items():
        found[density] = [model.sample(part.to(device())) for part in torch.split(latent, BATCH)]
    return {
        density: torch.cat([clarity.to_pictures(part) for part in parts]).cpu().numpy()
        for density, parts in found.items()
    }


def fit(codes: np.ndarray, components: int) -> GaussianMixture:
    """A mixture of normal distributions with full covariances, for latents (n, 384). Each keeps a
    thousandth of their mean variance in every direction, as some have none."""
    floor = 1e-3 * float(codes.var(0).mean())
    mixture = GaussianMixture(components, reg_covar=max(floor, 1e-9), max_iter=30, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(codes.astype(np.float64))


def measured(
    pictures: np.ndarray, held_out: np.ndarray, nearby: Tensor, reach: np.ndarray | None = None
) -> tuple[float, ...]:
    """The values of MEASURED of uint8 pictures (n, size, size, 3); without `reach`, the distances
    of reconstructions, copies are not a number."""
    count = min(len(pictures), len(held_out))
    chosen = [MEASURES[name] for name in CLARITY]
    with compute.threads() as pool:
        rows = compute.of_pictures(pool, "samples", chosen, pictures[:count], held_out[:count])
    clear = [value for _, _, value, _, _ in rows]
    nearest = _distances(pictures, nearby)
    copies = np.nan if reach is None else float((nearest < np.quantile(reach, 0.01)).mean())
    found = float(clarity.detect(pictures).mean())
    return found, *clear, float(np.median(nearest)), copies


def _small(images: np.ndarray) -> Tensor:
    """(n, 3 * 32 * 32) in [0, 1] of uint8 (n, 128, 128, 3)."""
    factor = images.shape[1] // SMALL
    parts = (to_tensor(images[i : i + BATCH]) for i in range(0, len(images), BATCH))
    return torch.cat([functional.avg_pool2d(part, factor).flatten(1) for part in parts])


def _distances(pictures: np.ndarray, nearby: Tensor) -> np.ndarray:
    """Of pictures to the nearest of `nearby`: root mean square (n,)."""
    nearest = torch.cdist(_small(pictures), nearby).min(1).values
    distances: np.ndarray = (nearest / nearby.shape[1] ** 0.5).numpy()
    return distances


def told(frame: pd.DataFrame, trained_on: int) -> str:
    """The results in Markdown: means over the seeds of a variant."""
    rows, found = [], dict[str, dict[object, float]]()  # faces found, by variant and density
    for (variant, density), own in frame.groupby(["variant", "density"], sort=False):
        mean = own[[*MEASURED]].mean()
        found.setdefault(str(variant), {})[density] = mean.faces_found
        clear = f"{mean.high_frequency_ratio:.2f}", f"{mean.grid_ratio:.2f}"
        copies = "" if np.isnan(mean.copies) else f"{mean.copies:.1%}"
        near = f"{mean.nearest:.3f}", copies
        rows.append((variant, density, len(own), f"{mean.faces_found:.0%}", *clear, *near))
    names = "variant | pictures | seeds | faces found | high frequencies | grid | nearest | copies"
    lines = [
        "# New faces from the latents of training faces",
        "",
        "Ghosh et al. (2020, *From Variational to Deterministic Autoencoders*) draw new pictures "
        "from an autoencoder that was not trained for it: a density is fitted to the latents of "
        f"the {trained_on:,} training faces afterwards, here a Gaussian with full covariance and a "
        f"mixture of {COMPONENTS['mixture']}. Averaged weights, {SAMPLES} "
        f"samples a seed, means over seeds. `nearest` is the median distance to "
        f"the nearest training face (root mean square, {SMALL}x{SMALL} pixels); `copies` the "
        "fraction of samples nearer than 99 % of the reconstructions of held-out faces are: 1 % is "
        "what new people have. Every seed: `latents.csv`.",
        "",
        *markdown(names, rows),
        "",
        "![Samples of the first seed of each variant](latents.png)",
        "",
    ]
    del found[""]  # the held-out faces themselves
    for variant, by_density in found.items():
        recreated = by_density.pop(HELD_OUT)
        best = max(by_density, key=by_density.__getitem__)
        text = f"- {variant}: a face in {by_density[best]:.0%} of the samples from the {best}"
        if "standard normal" in by_density and best != "standard normal":
            text += f", in {by_density['standard normal']:.0%} from the standard normal"
        lines.append(f"{text}; in {recreated:.0%} of its reconstructions of held-out faces.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
