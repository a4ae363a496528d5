"""Your own pictures beside their reconstructions by trained models, with errors.

  python -m stages.reconstruct photo.jpg folder/ --variants stacked recursive -o out.png
      Pictures, folders and archives of them, cropped to the largest face that is found, else to the
      central square (--crop centre: always). --json prints the errors as JSON, --latents FILE.npy
      keeps the numbers, the latent, that one of --variants makes of each picture.
  python -m stages.reconstruct --sample 16 --variants stacked_vae -o out.png
      New faces, drawn by variational models; --seed N draws others.
  python -m stages.reconstruct --export model.onnx --variants stacked

--variants: names in params.yaml, trained here or kept in reports/models, or .safetensors files; all
that are kept there if you name none.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.files import atomic

if TYPE_CHECKING:
    from stages.model.network import Autoencoder

MOST = 50  # pictures in one image
SEEDS = 2**63  # as many as params.yaml may name


class Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise PipelineError(f"{message}; `python -m stages.reconstruct --help` says more")


def parse(words: tuple[str, ...]) -> Namespace:
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("pictures", nargs="*")
    parser.add_argument("--variants", nargs="+")
    parser.add_argument("-o", "--output", type=Path, default=Path("reconstructions.png"))
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path)
    parser.add_argument("--crop", choices=["face", "centre"], default="face")
    parser.add_argument("--latents", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_intermixed_args(words)
    if (bool(given.pictures), given.sample is not None, bool(given.export)).count(True) != 1:
        parser.error("give one of pictures (before --variants), --sample N and --export FILE")
    for word in ("export", "latents"):
        if getattr(given, word) and len(given.variants or []) != 1:
            parser.error(f"--{word} takes one of --variants")
    if (given.latents or given.json) and not given.pictures:
        parser.error("--latents and --json are for pictures")
    if given.latents and given.latents.suffix != ".npy":
        parser.error(f"--latents {given.latents} should end in .npy")
    if not 0 <= given.seed < SEEDS:
        parser.error(f"--seed {given.seed} is not 0 to {SEEDS - 1}")
    if given.output.suffix.lower() != ".png":
        parser.error(f"--output {given.output} should end in .png")
    output = given.output.resolve()
    if output.exists() and {output, *output.parents} & {Path(p).resolve() for p in given.pictures}:
        parser.error(f"--output {given.output} is one of the pictures; name another file")
    return given


@entry_point
def main(*words: str) -> None:
    wanted = parse(words)
    # Torch takes seconds: wrong words end the program before.
    from stages.measure.reconstructions import draw
    from stages.model import onnx, store
    from stages.report import beside

    models = store.load(wanted.variants or store.copies())
    sizes = {name: model.size for name, model in models.items()}
    if len({*sizes.values()}) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise PipelineError(f"--variants differ in pixels a side ({told}); name those of one size")
    if wanted.export:
        with atomic(wanted.export) as unfinished:
            onnx.to_onnx(models[wanted.variants[0]], unfinished)
        print(wanted.export)
    elif wanted.sample is not None:
        drawn = {name: draw(model, wanted.sample, wanted.seed) for name, model in models.items()}
        with atomic(wanted.output) as unfinished:
            beside.samples(drawn).save(unfinished)
        print(wanted.output)
    else:
        _reconstruct(wanted, models)


def _reconstruct(wanted: Namespace, models: "dict[str, Autoencoder]") -> None:
    from stages.data import given
    from stages.data.pictures import tell_skipped
    from stages.measure.reconstructions import held_out_error, latents, reconstruct
    from stages.report import beside

    size = next(iter(models.values())).size
    names, crops, pixels, skipped = given.read(wanted.pictures, MOST, wanted.crop, size)
    made = {name: reconstruct(model, pixels) for name, model in models.items()}
    held_out = {name: held_out_error(name) for name in models}
    with atomic(wanted.output) as unfinished:
        beside.reconstructions(names, crops, pixels, made, held_out).save(unfinished)
    if wanted.latents:
        with atomic(wanted.latents) as unfinished:
            np.save(unfinished, latents(models[wanted.variants[0]], pixels))
    if wanted.json:
        errors = beside.errors(names, crops, made)
        print(json.dumps({"pictures": errors, "held_out": held_out, "skipped": skipped}, indent=2))
        return
    if skipped:
        print(tell_skipped(skipped))
    print(beside.table(names, crops, made, held_out), wanted.output, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
