"""Who a model is: the paper's numbers, its order and label, its colour and line; and which of the
evaluated models stand beside which.

A new value of any setting needs no entry here: it gets the next free line, and its name as a label.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.common.settings import CANDIDATE, IMPLEMENTATIONS, WEIGHTS, Implementation, Weights
from stages.measure.records import Model, Record, Records


@dataclass(frozen=True)
class PaperModel:
    """One model of the paper and its error, the squared error summed over an image's values.

    `table1` is printed in Table 1, `figure5` is read off the labels of Figure 5's pictures: two
    draws of 100 training images each, one training run. None where the paper gives no number.
    """

    label: str
    table1: int | None
    figure5: int | None
    note: str = ""

    @property
    def errors(self) -> list[int]:
        """The numbers that are the paper's measurement of this very model, lowest first."""
        table1 = None if self.note else self.table1
        return sorted(error for error in (table1, self.figure5) if error is not None)

    @property
    def printed(self) -> str:
        """All that the paper prints for this model, with the places."""
        places = ((self.table1, "Table 1"), (self.figure5, "Figure 5"))
        return ", ".join(f"{value} ({place})" for value, place in places if value is not None)


# In the order of Table 1, then the variational autoencoders of Figure 4.
PAPER = {
    "recursive_bn": PaperModel("recursive, batch norm", 7831, 8336),
    "stacked_bn": PaperModel("stacked, batch norm", 467, 373),
    "stacked": PaperModel("stacked", 258, 197),
    "recursive": PaperModel("recursive", 239, 186),
    "stacked_shared_bn": PaperModel("stacked, shared norm", 643, 528),
    "recursive_shared_bn": PaperModel("recursive, shared norm", 455, 337),
    "stacked_shared_bn_relu": PaperModel(
        "stacked, shared norm, ReLU", 643, 483, note="Table 1 repeats the number of the SELU model"
    ),
    "recursive_shared_bn_relu": PaperModel("recursive, shared norm, ReLU", 2020, 1955),
    "stacked_vae": PaperModel("stacked VAE", None, 421),
    "recursive_vae": PaperModel("recursive VAE", None, 3979),
}

IMPLEMENTATION_LABELS = {name: f"as {name}" for name in IMPLEMENTATIONS}
WEIGHTS_LABELS = {name: name.replace("_", " ") for name in WEIGHTS}
Kind = tuple[Implementation, Weights]
KINDS: list[Kind] = [(how, weights) for how in IMPLEMENTATIONS for weights in WEIGHTS]
# Whose pictures are shown first.
FIRST = ("stacked", "recursive", "recursive_shared_bn")


def label(variant: str) -> str:
    """What tables and figures call a variant: the paper's words, or its name in params.yaml."""
    return PAPER[variant].label if variant in PAPER else variant


def rank(variant: str) -> tuple[int, str]:
    """Sorts variants: the paper's in its order, the candidate, then all others by name."""
    order = [*PAPER, CANDIDATE]
    return order.index(variant) if variant in order else len(order), variant


def models(records: Records, implementation: Implementation, weights: Weights) -> list[Record]:
    """Those of one implementation and kind of weights, in the order of every table and figure."""
    chosen = [one for one in records.found.values() if one.model[1:] == (implementation, weights)]
    return sorted(chosen, key=lambda record: rank(record.model.variant))


def variants(records: Records) -> list[str]:
    """The rows of Table 1: the paper's models, evaluated or not, then all other variants."""
    names = {model.variant for model in records.found} | {*PAPER}
    return sorted(names, key=rank)


def absence(records: Records, model: Model) -> str:
    """Why a model is not among the evaluated."""
    return records.missing.get(model, "not among the variants")


def twins(records: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Each recursive model with the stacked one of otherwise the same settings."""
    pairs = []
    for one in records:
        if one.settings.training == "recursive":
            twin = one.settings.model_copy(update={"training": "stacked"}), *one.model[1:]
            alike = [other for other in records if _setting(other) == twin]
            namesake = one.model.variant.replace("recursive", "stacked")
            alike.sort(key=lambda other: other.model.variant != namesake)
            pairs += [(one, other) for other in alike[:1]]
    return pairs


def distinct(records: Sequence[Record]) -> list[Record]:
    """Without the candidate where another variant has its very settings."""
    named = [_setting(one) for one in records if one.model.variant != CANDIDATE]
    return [one for one in records if one.model.variant != CANDIDATE or _setting(one) not in named]


def _setting(record: Record) -> tuple[object, ...]:
    """All that a model is, but for its name."""
    return record.settings, *record.model[1:]


def valid(record: Record, measure: str, split: str = "test") -> pd.DataFrame:
    """`measure` of the seeds that did not diverge: columns value, standard_error, n."""
    rows = record.per_seed(measure, split)
    return rows[~rows.index.isin(list(record.diverged))]


def error_by_epoch(record: Record, weights: Weights) -> pd.DataFrame:
    """The rows of a model's curve with the held-out error of these weights, of all seeds."""
    loss = {"last_step": "error", "averaged": "averaged_error"}[weights]
    return record.curve[(record.curve.split == "test") & (record.curve.loss == loss)]


class Mean(NamedTuple):
    """A measure over the seeds of a model that did not diverge.

    value, deviation: nan where no seed, or one, has it. standard_error: of a seed, over images,
    their mean. n: seeds that have it. diverged: seeds that have none.
    """

    value: float
    deviation: float
    standard_error: float
    n: int
    diverged: int

    def __str__(self) -> str:
        """The mean ± the standard deviation (n); "(n/all)" where some diverged."""
        n = f"{self.n}/{self.n + self.diverged}" if self.diverged else f"{self.n}"
        if not self.n:
            return f"diverged ({n})" if self.diverged else "-"
        spread = f" ± {self.deviation:.0f}" if self.n > 1 else ""
        return f"{self.value:.0f}{spread} ({n})"


def mean_of(record: Record | None, measure: str = "error", split: str = "test") -> Mean:
    """Of no record, a mean of no seed."""
    if record is None:
        return Mean(np.nan, np.nan, np.nan, 0, 0)
    rows = valid(record, measure, split)
    values, error = rows.value, rows.standard_error.mean()
    return Mean(values.mean(), values.std(), error, len(values), len(record.diverged))


def without_seeds(records: Records, left_out: Container[int]) -> Records:
    """The same records on their other seeds alone; a model that has none is missing."""
    found, missing = {}, dict(records.missing)
    for model, record in records.found.items():
        rows = [row for row, seed in enumerate(record.seeds) if seed not in left_out]
        seeds = [record.seeds[row] for row in rows]
        if not seeds:
            missing[model] = "no other seeds"
            continue
        found[model] = replace(
            record,
            seeds=seeds,
            diverged={seed: told for seed, told in record.diverged.items() if seed in seeds},
            measures=record.measures[record.measures.index.isin(seeds, level="seed")],
            curve=record.curve[record.curve.seed.isin(seeds)],
            test_error=record.test_error[rows],
            spectrum=record.spectrum[
                np.isin([s for s in record.seeds if s not in record.diverged], seeds)
            ],
        )
    return replace(records, found=found, missing=missing)


# The colour says norm and activation (Okabe and Ito's palette, safe for colour-blind readers), the
# line says training.
COLOURS = {  # (norm, activation, variational)
    ("none", "selu", False): "#0072B2",
    ("batch", "selu", False): "#D55E00",
    ("shared", "selu", False): "#009E73",
    ("shared", "relu", False): "#CC79A7",
    ("none", "selu", True): "#E69F00",
}
# Of variants that are not the paper's.
OWN_COLOURS = [
    *("#56B4E9", "#7F7F7F", "#8C564B", "#B8A700", "#9467BD"),
    *("#17BECF", "#F768A1", "#1B4F3A", "#A63603", "#08306B"),
]
Dash = tuple[float, ...]  # lengths of strokes and gaps, in line widths; none: a solid line
DASHES: dict[str, Dash] = {"recursive": (), "stacked": (4, 1.6), "joint": (1, 1)}
OWN_DASHES: list[Dash] = [(6, 1.5, 1, 1.5), (8, 3), (3, 1, 1, 1, 1, 1)]


class Look(NamedTuple):
    colour: str
    dash: Dash


def looks_of(records: Records) -> dict[str, Look]:
    """How each evaluated variant is drawn, the same for all of its models."""
    settings = {model.variant: record.settings for model, record in records.found.items()}
    dashes = dashes_of(one.training for one in settings.values())
    own = cycle(OWN_COLOURS)
    looks = {}
    for variant in sorted(settings, key=rank):
        s = settings[variant]
        key = (s.norm, s.activation, s.variational)
        is_papers = variant in PAPER and key in COLOURS
        colour = "black" if variant == CANDIDATE else COLOURS[key] if is_papers else next(own)
        looks[variant] = Look(colour, dashes[s.training])
    return looks


def dashes_of(trainings: Iterable[str]) -> dict[str, Dash]:
    """The line of each kind of training, those that have one of their own first."""
    present = {*trainings}
    new = zip(sorted(present - {*DASHES}), cycle(OWN_DASHES), strict=False)
    return {name: dash for name, dash in DASHES.items() if name in present} | dict(new)


def families(records: Records) -> list[str]:
    """Every norm, activation and kind there is, in the order of the models."""
    shown = [one for how in IMPLEMENTATIONS for one in models(records, how, "last_step")]
    return list(dict.fromkeys(family(record) for record in distinct(shown)))


def family(record: Record) -> str:
    """A model's norm, activation and kind, in words."""
    settings = record.settings
    if settings.variational and settings.norm == "none" and settings.activation == "selu":
        return "VAE"
    words = ["no norm" if settings.norm == "none" else f"{settings.norm} norm"]
    activation = {"selu": "", "relu": "ReLU"}.get(settings.activation, settings.activation)
    words += [activation] if activation else []
    words += ["VAE"] if settings.variational else []
    return ", ".join(words)
