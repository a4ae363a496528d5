"""Your own pictures beside their reconstructions by trained models, with errors.

  python -m stages.reconstruct photo.jpg folder/ --variants stacked best -o out.png
      Pictures, folders and archives of them, cropped to the central square: a face should fill it.
  python -m stages.reconstruct --sample 16 --variants stacked_vae -o out.png
      New faces, drawn by variational models; --seed N draws others.
  python -m stages.reconstruct --export model.onnx --variants stacked

--variants: names in params.yaml, trained here or kept in reports/models, or .safetensors files; all
that are kept there if you name none.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import NoReturn

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.files import atomic

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
    given = parser.parse_intermixed_args(words)
    if (bool(given.pictures), given.sample is not None, bool(given.export)).count(True) != 1:
        parser.error("give one of pictures (before --variants), --sample N and --export FILE")
    if given.export and len(given.variants or []) != 1:
        parser.error("--export takes one of --variants")
    if not 0 <= given.seed < SEEDS:
        parser.error(f"--seed {given.seed} is not 0 to {SEEDS - 1}")
    if given.output.suffix.lower() != ".png":
        parser.error(f"--output {given.output} should end in .png")
    return given


@entry_point
def main(*words: str) -> None:
    wanted = parse(words)
    # Torch takes seconds: wrong words are told before.
    from stages.data import given as pictures
    from stages.data.pictures import tell_skipped
    from stages.measure.reconstructions import draw, reconstruct
    from stages.model import onnx, store
    from stages.report import beside

    models = store.load(wanted.variants or store.copies())
    if wanted.export:
        with atomic(wanted.export) as unfinished:
            onnx.to_onnx(models[wanted.variants[0]], unfinished)
        print(wanted.export)
        return
    if wanted.sample is not None:
        drawn = {name: draw(model, wanted.sample, wanted.seed) for name, model in models.items()}
        told, sheet = [], beside.samples(drawn)
    else:
        names, pixels, skipped = pictures.read(wanted.pictures, MOST)
        if skipped:
            print(tell_skipped(skipped))
        made = {name: reconstruct(model, pixels) for name, model in models.items()}
        told = [beside.table(names, made)]
        sheet = beside.reconstructions(names, pixels, made)
    with atomic(wanted.output) as unfinished:
        sheet.save(unfinished)
    print(*told, wanted.output, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
