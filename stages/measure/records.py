"""What evaluation leaves in reports/, in git: written and read here, without torch."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from stages.common.settings import Implementation, ModelSettings

Weights = Literal["last_step", "averaged"]
WEIGHTS: tuple[Weights, ...] = ("last_step", "averaged")
FACES = 8  # in the grid of a model


class Model(NamedTuple):
    """One of the models of a variant."""

    variant: str
    implementation: Implementation
    weights: Weights


@dataclass(frozen=True)
class Record:
    """One evaluated model, all its seeds.

    seeds: all of them, ascending as in the settings. diverged: those without weights, and what
    happened, in words.

    measures: columns value, standard_error and n, indexed by split ("test", "train", "samples"),
    measure and seed. A diverged seed has but the error, inf. curve: columns seed, epoch, split,
    loss and value; the same for both weights of a model. Its split "test" has losses "error", of
    the last step, and "averaged_error", of the averaged weights.

    test_error: squared error of each held-out image, float (seeds, images), a row of inf for a
    diverged seed. spectrum: radial power spectrum of the reconstructions, a row a seed that did
    not diverge, (len(seeds) - len(diverged), 65).

    reconstructions: of the first seed that did not diverge, uint8 (n, 128, 128, 3), of the first n
    of `References.inputs`; n is 0 where all diverged. samples: uint8 (8, 128, 128, 3) of a
    variational model, else (0, 128, 128, 3).
    """

    model: Model
    settings: ModelSettings
    seeds: list[int]
    diverged: dict[int, str]
    measures: pd.DataFrame
    curve: pd.DataFrame
    test_error: np.ndarray
    spectrum: np.ndarray
    reconstructions: np.ndarray
    samples: np.ndarray

    def per_seed(self, measure: str, split: str = "test") -> pd.DataFrame:
        """Columns value, standard_error and n, indexed by seed; empty where it was not measured."""
        if (split, measure) not in self.measures.index:
            return self.measures.iloc[:0].droplevel(["split", "measure"])
        return self.measures.loc[(split, measure)]

    def mean(self, measure: str, split: str = "test") -> float:
        """Mean over seeds, inf where one diverged; nan where it was not measured."""
        return float(self.per_seed(measure, split).value.mean())


@dataclass(frozen=True)
class References:
    """Measured once, of no model: the held-out inputs, and noise in which no face should be found.

    inputs: uint8 (8, 128, 128, 3). input_spectrum: (65,). measures: columns value, standard_error
    and n, indexed by `of` ("input" or "noise") and measure.
    """

    inputs: np.ndarray
    input_spectrum: np.ndarray
    measures: pd.DataFrame


@dataclass(frozen=True)
class Records:
    """Every model of configs/: those evaluated, sorted by name, and why the others are not.

    images: pictures a split.
    """

    found: dict[Model, Record]
    missing: dict[Model, str]
    references: References
    dataset: str
    images: dict[str, int] | None
