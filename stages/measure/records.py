"""What evaluation leaves in reports/, in git: written and read here, without torch.

    reports/references/                 `References`, once
    reports/records/<variant>/          what the models of a variant were measured to be
        contents.yaml                   settings, faces and weights they are of; hashes of all files
        curve.csv                       training curves of all seeds
        <implementation>_<weights>.csv  the measures
        <implementation>_<weights>.npz  error of each held-out image, in half precision; spectra
    reports/grids/<variant>/<implementation>_<weights>.png
                                        a model's reconstructions, and below them its samples

A variant may take 300 kB in git. Its numbers take 32 kB (four seeds) to 94 kB (thirteen), a face of
LFW 24 kB. So the model as described with averaged weights keeps eight faces, each other model one.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.common.errors import PipelineError
from stages.common.files import atomic_folder
from stages.common.settings import (
    CONFIGS,
    IMPLEMENTATIONS,
    VARIANTS,
    WEIGHTS,
    DownloadSettings,
    Implementation,
    ModelSettings,
    Variant,
    Weights,
    configured,
    differences,
    read_config,
    read_variant,
)
from stages.data.faces import SIZE
from stages.measure import sealed
from stages.measure.measures import MEASURES
from stages.measure.sealed import CONTENTS, Contents, Folder

REPORTS = Path("reports")
FACES = 8  # of the inputs, and of the model shown in full
VALUE = {"value": float, "standard_error": float, "n": int}
MEASURED = {"split": str, "measure": str, "seed": int} | VALUE
REFERENCE = {"of": str, "measure": str} | VALUE
CURVE = {"seed": int, "epoch": int, "split": str, "loss": str, "value": float}
EPOCH = ["implementation", "seed", "epoch"]
WIDE = defaultdict(lambda: float, implementation=str, seed=int, epoch=int)  # a column a loss


class Model(NamedTuple):
    """A model of a variant."""

    variant: str
    implementation: Implementation
    weights: Weights

    @property
    def file(self) -> str:
        return f"{self.implementation}_{self.weights}"

    @property
    def faces(self) -> int:
        """The number of pictures that are kept."""
        return FACES if self[1:] == ("described", "averaged") else 1


@dataclass(frozen=True)
class Record:
    """An evaluated model, with all its seeds.

    seeds: in the order of the settings. diverged: by seed, what happened to those without weights.
    measures: columns value, standard_error and n, indexed by split ("test", "train", "samples"),
    measure and seed. A diverged seed has the error alone, inf.
    curve: columns seed, epoch, split, loss and value; the same for both weights of a model. Its
    split "test" has losses "error", of the last step, and "averaged_error", of averaged weights.
    test_error: squared error of each held-out image, float (seeds, images); inf if it diverged.
    spectrum: radial power spectrum of the reconstructions of each seed that did not diverge,
    (len(seeds) - len(diverged), s / 2 + 1).
    machines: processors and libraries that the variant was trained with.
    reconstructions: of the first seed that did not diverge and the first n of `References.inputs`,
    uint8 (n, s, s, 3): n is `Model.faces`, or 0 where all seeds diverged.
    samples: as many of a variational model, else none.
    """

    model: Model
    settings: ModelSettings
    seeds: list[int]
    diverged: dict[int, str]
    measures: pd.DataFrame
    curve: pd.DataFrame
    test_error: np.ndarray
    spectrum: np.ndarray
    machines: list[str]
    reconstructions: np.ndarray
    samples: np.ndarray

    @property
    def size(self) -> int:
        """Pixels a side of its images."""
        return self.settings.size or SIZE

    @cached_property
    def _by_measure(self) -> Mapping[tuple[Hashable, ...], pd.DataFrame]:
        rows = self.measures.reset_index(["split", "measure"])
        groups = rows.groupby(["split", "measure"])[[*VALUE]]
        return defaultdict(lambda: rows.iloc[:0][[*VALUE]], dict(iter(groups)))

    def per_seed(self, measure: str, split: str = "test") -> pd.DataFrame:
        """Columns value, standard_error and n, indexed by seed; empty where it was not measured."""
        return self._by_measure[split, measure]

    def mean(self, measure: str, split: str = "test") -> float:
        """Mean over seeds; nan where it was not measured. A diverged seed makes an error inf."""
        return float(self.per_seed(measure, split).value.mean())


@dataclass(frozen=True)
class References:
    """Measures without a model: of the held-out inputs, of noise, and of the mean training picture
    in place of every reconstruction.

    inputs: uint8 (8, s, s, 3). input_spectrum: (s / 2 + 1,). measures: columns value,
    standard_error and n, indexed by `of` ("input", "noise" or "mean") and measure.
    """

    inputs: np.ndarray
    input_spectrum: np.ndarray
    measures: pd.DataFrame


@dataclass(frozen=True)
class Records:
    """Every model of configs/, sorted by name: evaluated, or the reason why it is not.

    faces: content hash of the prepared faces. images: pictures in each split. people: those held
    out; None where they were not counted.
    """

    found: dict[Model, Record]
    missing: dict[Model, str]
    references: References
    faces: str
    dataset: str
    images: dict[str, int]
    people: int | None = None

    @property
    def size(self) -> int:
        """Pixels a side of the images."""
        return len(self.references.inputs[0])

    @cached_property
    def measures(self) -> list[str]:
        """The names of all measures that some model has of its reconstructions, in their order."""
        tables = [record.measures for record in self.found.values()]
        return [name for name in MEASURES if any(("test", name) in table.index for table in tables)]


class _VariantContents(Contents):
    """weights: SHA-256 of each file of weights below models/<variant>/. diverged: by folder, what
    happened to a training. machines: processors and libraries of the trainings."""

    settings: Variant
    weights: dict[str, str]
    diverged: dict[str, str]
    machines: list[str]


class _ReferencesContents(Contents):
    dataset: str
    images: dict[str, int]
    people: int | None = None


def write_variant(
    name: str,
    settings: Variant,
    faces: str,
    weights: dict[str, str],
    records: Sequence[Record],
    root: str | Path = ".",
) -> None:
    """Replace the records and grids of a variant in reports/. records: of all its models.

    faces: content hash of the prepared faces. weights: SHA-256 of each file of weights.
    """
    reports = Path(root) / REPORTS
    folder, grids = reports / "records" / name, reports / "grids" / name
    diverged, curves = {}, {}
    with atomic_folder(folder) as numbers, atomic_folder(grids) as pictures:
        for record in records:
            model = record.model
            table = record.measures.reset_index()[[*MEASURED]]
            sealed.write_table(table, numbers / f"{model.file}.csv")
            np.savez_compressed(
                numbers / f"{model.file}.npz",
                test_error=record.test_error.astype(np.float16),
                spectrum=record.spectrum.astype(np.float32),
            )
            rows = [row for row in (record.reconstructions, record.samples) if len(row)]
            # Black where all seeds diverged: git keeps no empty folder.
            black = np.zeros((1, *record.samples.shape[1:]), np.uint8)
            sealed.write_grid(rows or [black], pictures / f"{model.file}.png")
            curves[model.implementation] = record.curve
            for seed, what in record.diverged.items():
                diverged[f"{model.implementation}/seed{seed}"] = what
        sealed.write_table(_wide(curves), numbers / "curve.csv")
        contents = _VariantContents(
            faces=faces,
            files=sealed.hashes({numbers: folder, pictures: grids}, reports),
            settings=settings,
            weights=weights,
            diverged=diverged,
            machines=sorted({machine for record in records for machine in record.machines}),
        )
        sealed.seal(contents, numbers)


def write_references(
    references: References,
    dataset: str,
    faces: str,
    images: dict[str, int],
    root: str | Path = ".",
    people: int | None = None,
) -> None:
    """Replace reports/references/. images: pictures in each split. people: those held out."""
    reports = Path(root) / REPORTS
    folder = reports / "references"
    with atomic_folder(folder) as unfinished:
        sealed.write_grid([references.inputs], unfinished / "inputs.png")
        sealed.write_table(references.measures.reset_index(), unfinished / "measures.csv")
        np.savez_compressed(
            unfinished / "spectrum.npz", input_spectrum=references.input_spectrum.astype(np.float32)
        )
        files = sealed.hashes({unfinished: folder}, reports)
        contents = _ReferencesContents(
            faces=faces, files=files, dataset=dataset, images=images, people=people
        )
        sealed.seal(contents, unfinished)


def _wide(curves: Mapping[Implementation, pd.DataFrame]) -> pd.DataFrame:
    """Curves by implementation as one table: a row an epoch, a column `split/loss`."""
    table = pd.concat(curves, names=["implementation"]).reset_index("implementation")
    table["column"] = table.split + "/" + table.loss
    return table.pivot(index=EPOCH, columns="column", values="value").reset_index()


def _long(table: pd.DataFrame, implementation: Implementation) -> pd.DataFrame:
    """The curve of one implementation in a table that `_wide` made."""
    table = table[table.pop("implementation") == implementation]
    points = table.melt(["seed", "epoch"], var_name="column").dropna(subset="value")
    points[["split", "loss"]] = points.column.str.extract("(.*)/(.*)")
    points = points.sort_values(["seed", "epoch"], kind="stable", ignore_index=True)
    return points[[*CURVE]].astype(CURVE)


def read(root: str | Path = ".") -> Records:
    """The records of every variant in configs/ under `root`, the project's folder.

    Raises PipelineError where nothing is evaluated, a file is damaged, or a record is of other
    settings or faces than configs/ and the references are.
    """
    root = Path(root)
    reports = root / REPORTS
    references = Folder(_ReferencesContents, reports, "references", "dvc repro references")
    dataset = read_config(DownloadSettings, root / CONFIGS / "download.yaml").dataset
    if references.contents.dataset != dataset:
        raise PipelineError(
            f"reports/references is of dataset {references.contents.dataset}, not of {dataset}; "
            "run `dvc repro`"
        )
    found: dict[Model, Record] = {}
    missing: dict[Model, str] = {}
    for name in configured(root):
        settings = read_variant(name, root)
        models = [Model(name, how, weights) for how in IMPLEMENTATIONS for weights in WEIGHTS]
        trained = [model for model in models if settings.seeds_of(model.implementation)]
        missing |= dict.fromkeys({*models} - {*trained}, "not trained (no released_seeds)")
        if not (reports / "records" / name / CONTENTS).exists():
            missing |= dict.fromkeys(trained, f"not evaluated: no reports/records/{name}")
            continue
        advice = f"dvc repro evaluate@{name}"
        folder = Folder(_VariantContents, reports, f"records/{name}", advice)
        if other := differences(folder.contents.settings.model_dump(), settings.model_dump()):
            raise PipelineError(
                f"{folder.name} is of other settings than {VARIANTS}/{name}.yaml ({other}); "
                f"run `{advice}`"
            )
        if folder.contents.faces != references.contents.faces:
            raise PipelineError(
                f"{folder.name} was measured on other faces than reports/references; "
                "run `dvc repro`"
            )
        images = references.contents.images
        found |= {model: _read_record(folder, model, images) for model in trained}
    if not found:
        raise PipelineError("no variant of configs/ has been evaluated yet; run `dvc repro`")
    return Records(
        found=dict(sorted(found.items())),
        missing=dict(sorted(missing.items())),
        references=_read_references(references),
        **references.contents.model_dump(exclude={"files"}),
    )


def _read_record(folder: Folder[_VariantContents], model: Model, images: dict[str, int]) -> Record:
    contents = folder.contents
    seeds = contents.settings.seeds_of(model.implementation)
    places = {seed: f"{model.implementation}/seed{seed}" for seed in seeds}
    diverged = {s: contents.diverged[at] for s, at in places.items() if at in contents.diverged}
    converged = len(seeds) - len(diverged)
    place = f"records/{model.variant}/{model.file}"
    with folder.parsing(model.file):
        measures = sealed.table(folder.data(f"{place}.csv"), MEASURED, 3)
        if {*measures.xs(("test", "error")).index} != {*seeds}:
            raise ValueError("errors of other seeds")
        arrays = folder.data(f"{place}.npz")
        errors = sealed.array(arrays, "test_error", (len(seeds), images["test"]))
        spectrum = sealed.array(arrays, "spectrum", (converged, -1))
        faces = min(model.faces, images["test"]) if converged else 1
        grid = sealed.grid(folder.data(f"grids/{model.variant}/{model.file}.png"), faces)
        curves = BytesIO(folder.data(f"records/{model.variant}/curve.csv"))
        curve = _long(pd.read_csv(curves, dtype=WIDE), model.implementation)
    none = np.empty_like(grid[0][:0])
    reconstructions, samples = [*(grid if converged else []), none, none][:2]
    return Record(
        model=model,
        settings=contents.settings.models()[model.implementation],
        seeds=seeds,
        diverged=diverged,
        measures=measures,
        curve=curve,
        test_error=errors.astype(np.float64),
        spectrum=spectrum,
        machines=contents.machines,
        reconstructions=reconstructions,
        samples=samples,
    )


def _read_references(folder: Folder[_ReferencesContents]) -> References:
    with folder.parsing("a file"):
        count = min(FACES, folder.contents.images["test"])
        (inputs,) = sealed.grid(folder.data("references/inputs.png"), count)
        measures = sealed.table(folder.data("references/measures.csv"), REFERENCE, 2)
        spectrum = sealed.array(
            folder.data("references/spectrum.npz"), "input_spectrum", (inputs.shape[1] // 2 + 1,)
        )
    return References(inputs, spectrum, measures)
