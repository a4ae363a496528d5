"""What the evaluated variants left behind, in the one order of every table and figure."""

import json
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from stages.common.errors import PipelineError
from stages.report.paper import PAPER
from stages.common.settings import CANDIDATE, PUBLISHED, ModelSettings, read_models, read_params

RUN_AGAIN = "run `dvc repro`"
ARRAYS = ["test_error", "inputs", "reconstructions", "samples", "spectrum", "input_spectrum"]
CURVE = ["model", "seed", "epoch", "split", "loss", "value"]
MEASURES = {
    "error": "error",
    "sharpness": "sharpness",
    "high_frequency_ratio": "share of high frequencies",
    "grid_ratio": "grid ratio",
    "colour_shift": "colour shift",
    "contrast_ratio": "contrast",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "faces_found": "faces found",
}


@dataclass(frozen=True)
class Result:
    """One evaluated model: a variant with one of the two wirings.

    headline: its part of reports/metrics/<variant>.json. measures: its rows of
    reports/evaluations/<variant>.csv, indexed by split, measure and seed. curve: its training
    curve. test_error: squared error of every held-out image, float (seeds, images). inputs,
    reconstructions: uint8 (faces, 128, 128, 3), the same faces for every model. samples: likewise,
    none unless variational. spectrum: radial power spectrum (seeds, frequencies), input_spectrum
    (frequencies,).
    """

    settings: ModelSettings
    headline: dict[str, float | None]
    measures: pd.DataFrame
    curve: pd.DataFrame
    test_error: np.ndarray
    inputs: np.ndarray
    reconstructions: np.ndarray
    samples: np.ndarray
    spectrum: np.ndarray
    input_spectrum: np.ndarray

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def variant(self) -> str:
        return self.name.removeprefix(PUBLISHED)

    @property
    def label(self) -> str:
        return label(self.name)

    def per_seed(self, measure: str, split: str = "test") -> pd.DataFrame:
        """Columns value, standard_error and n, indexed by seed; empty where it was not measured."""
        if (split, measure) not in self.measures.index:
            return self.measures.iloc[:0].droplevel(["split", "measure"])
        return self.measures.loc[(split, measure)]

    def mean(self, measure: str, split: str = "test") -> float:
        """Mean over seeds; nan where it was not measured."""
        return float(self.per_seed(measure, split).value.mean())


@dataclass(frozen=True)
class Results:
    """Every model of configs/: those evaluated, and what the others lack.

    images: pictures a split, None where data/faces.csv is not there.
    """

    found: dict[str, Result]
    missing: dict[str, str]
    dataset: str
    images: dict[str, int] | None

    def absence(self, name: str) -> str:
        """Why a model is not in `found`."""
        return self.missing.get(name, "not among the variants")

    def described(self) -> list[Result]:
        """Those wired as the paper describes."""
        return [model for model in self.found.values() if model.settings.wiring == "described"]

    def published(self) -> list[Result]:
        """Those wired as the authors' code."""
        return [model for model in self.found.values() if model.settings.wiring == "published"]

    def rows(self) -> list[str]:
        """The rows of Table 1: the paper's models, evaluated or not, then all other variants.

        A model with the authors' wiring is no row but columns of its variant's.
        """
        return [*PAPER, *(model.name for model in self.described() if model.name not in PAPER)]

    def twins(self) -> list[tuple[Result, Result]]:
        """Each recursive model with the stacked one of otherwise the same settings."""
        ignored = {"name", "training", "seeds"}
        pairs = []
        for one in self.found.values():
            if one.settings.training != "recursive":
                continue
            alike = [
                other
                for other in self.found.values()
                if other.settings.training == "stacked"
                and other.settings.model_dump(exclude=ignored)
                == one.settings.model_dump(exclude=ignored)
            ]
            namesake = one.name.replace("recursive", "stacked")
            alike.sort(key=lambda other: other.name != namesake)
            if alike:
                pairs.append((one, alike[0]))
        return pairs


def distinct(models: list[Result]) -> list[Result]:
    """Without the candidate's where another variant's has its very settings, but for the seeds."""

    def settings(model: Result) -> dict:
        return model.settings.model_dump(exclude={"name", "seeds"})

    return [
        model
        for model in models
        if model.variant != CANDIDATE
        or all(settings(model) != settings(other) for other in models if other is not model)
    ]


def label(name: str) -> str:
    """What tables and figures call a model: the paper's words, or its name in params.yaml."""
    base = name.removeprefix(PUBLISHED)
    told = PAPER[base].label if base in PAPER else base
    return told + (", published wiring" if name != base else "")


def _rank(name: str) -> tuple[bool, int, str]:
    base = name.removeprefix(PUBLISHED)
    order = [*PAPER, CANDIDATE]
    return name != base, order.index(base) if base in order else len(order), name


def read_results(root: str | Path = ".") -> Results:
    """Read what configure, train-variant and evaluate left under `root`, the project's folder.

    The models of a variant that lacks a file are reported in `missing`; files of a variant that is
    no longer in configs/ are not read. Raises PipelineError where no variant at all is complete or
    a file cannot be understood.
    """
    root = Path(root)
    found, missing = {}, {}
    for config in root.glob("configs/*.yaml"):
        models = read_models(config)
        if len(models) == 1:
            missing[PUBLISHED + config.stem] = "not trained (no published_seeds)"
        folder = root / "data/evaluations" / config.stem
        headline = root / f"reports/metrics/{config.stem}.json"
        measures, curve = root / f"reports/evaluations/{config.stem}.csv", folder / "curve.csv"
        arrays = {model.name: folder / f"{model.name}.npz" for model in models}
        files = (headline, measures, curve, *arrays.values())
        lacking = [str(path.relative_to(root)) for path in files if not path.exists()]
        if lacking:
            missing |= dict.fromkeys(arrays, f"not evaluated: {lacking[0]} is missing")
            continue
        try:
            tables = json.loads(headline.read_text()), pd.read_csv(measures), pd.read_csv(curve)
            for model in models:
                found[model.name] = _result(model, *tables, arrays[model.name])
        except (ValueError, KeyError, TypeError, OSError, EOFError, BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise PipelineError(
                f"the evaluation of {config.stem} is damaged ({reason}); {RUN_AGAIN}"
            ) from None
    if not found:
        raise PipelineError(f"no variant of configs/ has been evaluated yet; {RUN_AGAIN}")
    if len({result.test_error.shape[1] for result in found.values()}) > 1:
        raise PipelineError(f"variants were evaluated on different pictures; {RUN_AGAIN}")
    faces = root / "data/faces.csv"
    return Results(
        found={name: found[name] for name in sorted(found, key=_rank)},
        missing=missing,
        dataset=read_params(root / "params.yaml").download.dataset,
        images=pd.read_csv(faces).split.value_counts().to_dict() if faces.exists() else None,
    )


def _result(
    settings: ModelSettings, row: dict, table: pd.DataFrame, points: pd.DataFrame, arrays: Path
) -> Result:
    """One model's part of its variant's metrics, measures and curves, with its own arrays."""
    published = settings.wiring == "published"
    table, points = (each[each["model"] == settings.name] for each in (table, points))
    if table.empty or points.empty:
        raise ValueError(f"no rows of {settings.name}")
    with np.load(arrays) as file:
        return Result(
            settings=settings,
            headline={
                key.removeprefix(PUBLISHED): value
                for key, value in row.items()
                if key.startswith(PUBLISHED) == published
            },
            measures=table.set_index(["split", "measure", "seed"])[
                ["value", "standard_error", "n"]
            ].sort_index(),
            curve=points[CURVE],
            **{key: file[key] for key in ARRAYS},
        )
