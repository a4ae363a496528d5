"""What evaluation leaves in reports/, in git: written and read here, without torch.

    reports/references/                 `References`, once
    reports/records/<variant>/          what the models of a variant were measured to be
        contents.yaml                   settings, faces and weights they are of; hashes of all files
        curve.csv                       training curves of all seeds
        <implementation>_<weights>.csv  the measures
        <implementation>_<weights>.npz  error of each held-out image, in half precision; spectra
    reports/grids/<variant>/<implementation>_<weights>.png
                                        a model's reconstructions, and below them its samples

A face of LFW takes 24 kB as PNG, with whatever filters and compression, and 300 kB a variant are
all there is, of which numbers take 32 (four seeds) to 94 (thirteen). So the inputs are kept once,
and the model as described with averaged weights alone has its eight faces, the others one.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar, cast
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from stages.common import files
from stages.common.errors import PipelineError
from stages.common.settings import (
    CONFIGS,
    IMPLEMENTATIONS,
    VARIANTS,
    WEIGHTS,
    Checked,
    DownloadSettings,
    Implementation,
    ModelSettings,
    Variant,
    Weights,
    read_config,
    read_variant,
)
from stages.data.faces import SIZE

REPORTS = Path("reports")
FACES = 8  # of the inputs, and of the model shown in full
FREQUENCIES = 65
CONTENTS = "contents.yaml"
SEAL = "# SHA-256 of all above: "
MEASURED = ["split", "measure", "seed", "value", "standard_error", "n"]
CURVE = {"seed": int, "epoch": int, "split": str, "loss": str, "value": float}
EPOCH = ["implementation", "seed", "epoch"]


class Model(NamedTuple):
    """One of the models of a variant."""

    variant: str
    implementation: Implementation
    weights: Weights

    @property
    def file(self) -> str:
        return f"{self.implementation}_{self.weights}"

    @property
    def faces(self) -> int:
        """How many are kept of its pictures."""
        return FACES if self[1:] == ("described", "averaged") else 1


@dataclass(frozen=True)
class Record:
    """One evaluated model, all its seeds.

    seeds: all of them, in the order of the settings. diverged: those without weights, and what
    happened, in words.

    measures: columns value, standard_error and n, indexed by split ("test", "train", "samples"),
    measure and seed. A diverged seed has but the error, inf. curve: columns seed, epoch, split,
    loss and value; the same for both weights of a model. Its split "test" has losses "error", of
    the last step, and "averaged_error", of the averaged weights.

    test_error: squared error of each held-out image, float (seeds, images), a row of inf for a
    diverged seed. spectrum: radial power spectrum of the reconstructions, a row a seed that did
    not diverge, (len(seeds) - len(diverged), 65).

    machines: processors and libraries that the variant was trained with, in words.

    reconstructions: of the first seed that did not diverge, uint8 (n, 128, 128, 3), of the first n
    of `References.inputs`: eight of the model as described with averaged weights, one of others,
    none where all seeds diverged. samples: as many of a variational model, else none.
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

    def per_seed(self, measure: str, split: str = "test") -> pd.DataFrame:
        """Columns value, standard_error and n, indexed by seed; empty where it was not measured."""
        if (split, measure) not in self.measures.index:
            return self.measures.iloc[:0].droplevel(["split", "measure"])
        return cast(pd.DataFrame, self.measures.xs((split, measure)))

    def mean(self, measure: str, split: str = "test") -> float:
        """Mean over seeds; nan where it was not measured. Where one diverged, inf of an error, else
        the mean of the others.
        """
        return float(self.per_seed(measure, split).value.mean())


@dataclass(frozen=True)
class References:
    """Measured once, of no model: the held-out inputs, noise in which no face should be found, and
    the mean training picture in place of every reconstruction.

    inputs: uint8 (8, 128, 128, 3). input_spectrum: (65,). measures: columns value, standard_error
    and n, indexed by `of` ("input", "noise" or "mean") and measure.
    """

    inputs: np.ndarray
    input_spectrum: np.ndarray
    measures: pd.DataFrame


@dataclass(frozen=True)
class Records:
    """Every model of configs/: those evaluated, sorted by name, and why the others are not.

    images: pictures a split. people: held out; None where that was not counted.
    """

    found: dict[Model, Record]
    missing: dict[Model, str]
    references: References
    dataset: str
    images: dict[str, int] | None
    people: int | None = None


class _Contents(Checked):
    """What a folder of records is of. faces: content hash of the prepared faces. files: SHA-256 of
    every other file, by its place below reports/."""

    faces: str
    files: dict[str, str]


class _VariantContents(_Contents):
    """weights: SHA-256 of each file of weights below models/<variant>/. diverged: what happened to
    those trainings, by folder. machines: what they were trained with."""

    settings: Variant
    weights: dict[str, str]
    diverged: dict[str, str]
    machines: list[str]


class _ReferencesContents(_Contents):
    dataset: str
    images: dict[str, int]
    people: int | None = None


Contents = TypeVar("Contents", bound=_Contents)


# Writing.


def write_variant(
    name: str,
    settings: Variant,
    faces: str,
    weights: dict[str, str],
    records: Sequence[Record],
    root: str | Path = ".",
) -> None:
    """Replace what reports/ holds of a variant, but for its metrics.

    faces, weights: what was measured, see the module's docstring. records: of all its models.
    """
    reports = Path(root) / REPORTS
    folder, grids = reports / "records" / name, reports / "grids" / name
    with files.atomic_folder(folder) as numbers, files.atomic_folder(grids) as pictures:
        curves = {}
        for record in records:
            _write_table(
                record.measures.reset_index()[MEASURED], numbers / f"{record.model.file}.csv"
            )
            np.savez_compressed(
                numbers / f"{record.model.file}.npz",
                test_error=record.test_error.astype(np.float16),
                spectrum=record.spectrum.astype(np.float32),
            )
            rows = [row for row in (record.reconstructions, record.samples) if len(row)]
            # Black where all seeds diverged: git keeps no empty folder.
            black = np.zeros((1, SIZE, SIZE, 3), np.uint8)
            _write_grid(rows or [black], pictures / f"{record.model.file}.png")
            curves[record.model.implementation] = record.curve
        _write_table(_wide(curves), numbers / "curve.csv")
        contents = _VariantContents(
            faces=faces,
            files=_hashes({numbers: folder, pictures: grids}, reports),
            settings=settings,
            weights=weights,
            diverged={
                f"{record.model.implementation}/seed{seed}": what
                for record in records
                for seed, what in record.diverged.items()
            },
            machines=sorted({machine for record in records for machine in record.machines}),
        )
        _write_contents(contents, numbers)


def write_references(
    references: References,
    dataset: str,
    faces: str,
    images: dict[str, int],
    root: str | Path = ".",
    people: int | None = None,
) -> None:
    """Replace reports/references/. images: pictures a split. people: held out."""
    reports = Path(root) / REPORTS
    folder = reports / "references"
    with files.atomic_folder(folder) as unfinished:
        _write_grid([references.inputs], unfinished / "inputs.png")
        _write_table(references.measures.reset_index(), unfinished / "measures.csv")
        np.savez_compressed(
            unfinished / "spectrum.npz", input_spectrum=references.input_spectrum.astype(np.float32)
        )
        hashes = _hashes({unfinished: folder}, reports)
        contents = _ReferencesContents(
            faces=faces, files=hashes, dataset=dataset, images=images, people=people
        )
        _write_contents(contents, unfinished)


def _write_contents(contents: _Contents, folder: Path) -> None:
    text = yaml.safe_dump(contents.model_dump(), sort_keys=False)
    text += f"{SEAL}{_sha256(text.encode())}\n"
    (folder / CONTENTS).write_text(text, encoding="utf-8")


def _write_table(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, float_format=files.number, lineterminator="\n")  # type: ignore[arg-type]


def _write_grid(rows: Sequence[np.ndarray], path: Path) -> None:
    from stages.measure.grids import grid  # torch, which reading does without

    grid(rows).save(path, optimize=True)


def _wide(curves: Mapping[Implementation, pd.DataFrame]) -> pd.DataFrame:
    """Curves by implementation as one table: a row an epoch, a column `split/loss`."""
    table = pd.concat(curves, names=["implementation"]).reset_index("implementation")
    table["column"] = table.split + "/" + table.loss
    return table.pivot(index=EPOCH, columns="column", values="value").reset_index()


def _long(table: pd.DataFrame) -> pd.DataFrame:
    """What `_wide` was made of one implementation's curve."""
    points = table.melt(["seed", "epoch"], var_name="column")
    # Where a loss is not of all epochs, the file has holes, and its column is text.
    points = points.assign(value=pd.to_numeric(points["value"])).dropna(subset="value")
    points[["split", "loss"]] = points.column.str.extract("(.*)/(.*)")
    points = points.sort_values(["seed", "epoch"], kind="stable", ignore_index=True)
    return points[[*CURVE]].astype(CURVE)


def _hashes(folders: Mapping[Path, Path], reports: Path) -> dict[str, str]:
    """SHA-256 of every file in the folders, by where it will be: below the folder's value."""
    return {
        (place / path.name).relative_to(reports).as_posix(): _sha256(path.read_bytes())
        for folder, place in folders.items()
        for path in sorted(folder.iterdir())
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Reading.


def read(root: str | Path = ".") -> Records:
    """What evaluation left of every variant in configs/ under `root`, the project's folder.

    Raises PipelineError where nothing is evaluated, a file is damaged, or a record is of other
    settings or faces than configs/ and the references are.
    """
    root = Path(root)
    reports = root / REPORTS
    references = _Folder(_ReferencesContents, reports, "references", "dvc repro references")
    dataset = read_config(DownloadSettings, root / CONFIGS / "download.yaml").dataset
    if references.contents.dataset != dataset:
        raise PipelineError(
            f"reports/references is of dataset {references.contents.dataset}, not of {dataset}; "
            "run `dvc repro`"
        )
    found: dict[Model, Record] = {}
    missing: dict[Model, str] = {}
    for path in sorted((root / VARIANTS).glob("*.yaml")):
        name, settings = path.stem, read_variant(path.stem, root)
        models = [Model(name, how, weights) for how in IMPLEMENTATIONS for weights in WEIGHTS]
        trained = [model for model in models if settings.seeds_of(model.implementation)]
        missing |= dict.fromkeys(set(models) - set(trained), "not trained (no released_seeds)")
        if not (reports / "records" / name / CONTENTS).exists():
            missing |= dict.fromkeys(trained, f"not evaluated: no reports/records/{name}")
            continue
        advice = f"dvc repro evaluate@{name}"
        folder = _Folder(_VariantContents, reports, f"records/{name}", advice)
        _check_settings(folder, settings, path)
        if folder.contents.faces != references.contents.faces:
            raise PipelineError(
                f"{folder.name} was measured on other faces than reports/references; "
                "run `dvc repro`"
            )
        found |= {model: _read_record(folder, model) for model in trained}
    if not found:
        raise PipelineError("no variant of configs/ has been evaluated yet; run `dvc repro`")
    return Records(
        found={model: found[model] for model in sorted(found)},
        missing={model: missing[model] for model in sorted(missing)},
        references=_read_references(references),
        dataset=dataset,
        images=references.contents.images,
        people=references.contents.people,
    )


class _Folder(Generic[Contents]):
    """A folder of reports/ and what of it lies elsewhere there; all files as they were written.

    Raises PipelineError where one is not.
    """

    def __init__(self, kind: type[Contents], reports: Path, name: str, advice: str) -> None:
        self.name, self.advice = f"{REPORTS}/{name}", advice
        try:
            text = (reports / name / CONTENTS).read_text(encoding="utf-8")
            text, _, seal = text.partition(SEAL)
            if seal != f"{_sha256(text.encode())}\n":
                raise self.damaged(CONTENTS)
            self.contents = kind.model_validate(yaml.safe_load(text))
        except FileNotFoundError:
            raise PipelineError(f"{self.name} is missing; run `{advice}`") from None
        except ValueError:
            raise self.damaged(CONTENTS) from None
        self.data: dict[str, bytes] = {}
        for file, expected in self.contents.files.items():
            try:
                data = (reports / file).read_bytes()
            except FileNotFoundError:
                raise self.damaged(file, "is missing") from None
            if _sha256(data) != expected:
                raise self.damaged(file)
            self.data[Path(file).name] = data

    def damaged(self, file: str, how: str = "is not as it was written") -> PipelineError:
        return PipelineError(f"{self.name}: {Path(file).name} {how}; run `{self.advice}`")

    def table(self, file: str, text: Sequence[str]) -> pd.DataFrame:
        """A CSV; columns `text` hold names, which may look like numbers or like none."""
        return pd.read_csv(
            io.BytesIO(self.data[file]),
            dtype=dict.fromkeys(text, str),
            keep_default_na=False,
            na_values=dict.fromkeys(("value", "standard_error"), ""),
        )

    def arrays(self, file: str) -> dict[str, np.ndarray]:
        with np.load(io.BytesIO(self.data[file])) as arrays:
            return dict(arrays)

    def faces(self, file: str) -> list[np.ndarray]:
        """The rows of a grid, each uint8 (n, 128, 128, 3)."""
        pixels = np.asarray(Image.open(io.BytesIO(self.data[file])))
        down, across = pixels.shape[0] // SIZE, pixels.shape[1] // SIZE
        tiles = pixels.reshape(down, SIZE, across, SIZE, 3).swapaxes(1, 2)
        return list(tiles)


def _check_settings(folder: _Folder[_VariantContents], settings: Variant, config: Path) -> None:
    theirs, ours = folder.contents.settings.model_dump(), settings.model_dump()
    if other := [
        f"{key} {theirs[key]}, not {ours[key]}" for key in ours if theirs[key] != ours[key]
    ]:
        raise PipelineError(
            f"{folder.name} is of other settings than {VARIANTS / config.name} "
            f"({'; '.join(other)}); run `{folder.advice}`"
        )


def _read_record(folder: _Folder[_VariantContents], model: Model) -> Record:
    contents = folder.contents
    try:
        measures = folder.table(f"{model.file}.csv", ["split", "measure"])
        curve = folder.table("curve.csv", ["implementation"])
        arrays = folder.arrays(f"{model.file}.npz")
        grid = folder.faces(f"{model.file}.png")
    except (KeyError, ValueError, OSError, BadZipFile):
        raise folder.damaged(model.file, "cannot be read") from None
    seeds = contents.settings.seeds_of(model.implementation)
    diverged = {
        int(place.rpartition("seed")[2]): what
        for place, what in contents.diverged.items()
        if place.startswith(f"{model.implementation}/")
    }
    none = np.empty((0, SIZE, SIZE, 3), np.uint8)
    reconstructions, samples = [*(grid if len(diverged) < len(seeds) else []), none, none][:2]
    return Record(
        model=model,
        settings=contents.settings.models()[model.implementation],
        seeds=seeds,
        diverged=diverged,
        measures=measures.set_index(["split", "measure", "seed"]).sort_index(),
        curve=_long(
            curve[curve.implementation == model.implementation].drop(columns="implementation")
        ),
        test_error=arrays["test_error"].astype(np.float64),
        spectrum=arrays["spectrum"],
        machines=contents.machines,
        reconstructions=reconstructions,
        samples=samples,
    )


def _read_references(folder: _Folder[_ReferencesContents]) -> References:
    try:
        (inputs,) = folder.faces("inputs.png")
        measures = folder.table("measures.csv", ["of", "measure"])
        spectrum = folder.arrays("spectrum.npz")["input_spectrum"]
    except (KeyError, ValueError, OSError, BadZipFile):
        raise folder.damaged("a file", "cannot be read") from None
    return References(inputs, spectrum, measures.set_index(["of", "measure"]).sort_index())
