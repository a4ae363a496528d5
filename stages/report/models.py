"""Which of the evaluated models stand beside which."""

from collections.abc import Container, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from stages.common.settings import CANDIDATE, Implementation, Weights
from stages.measure.records import Model, Record, Records
from stages.report.paper import PAPER, rank

BEST = "best"  # the variant that `make search` found


def models(records: Records, implementation: Implementation, weights: Weights) -> list[Record]:
    """Those of one implementation and kind of weights, in the order of every table and figure."""
    chosen = [
        record
        for model, record in records.found.items()
        if (model.implementation, model.weights) == (implementation, weights)
    ]
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
        if one.settings.training != "recursive":
            continue
        alike = [other for other in records if _are_twins(one, other)]
        namesake = one.model.variant.replace("recursive", "stacked")
        alike.sort(key=lambda other: other.model.variant != namesake)
        if alike:
            pairs.append((one, alike[0]))
    return pairs


def _are_twins(recursive: Record, other: Record) -> bool:
    stacked = recursive.settings.model_copy(update={"training": "stacked"})
    return other.settings == stacked and other.model[1:] == recursive.model[1:]


def distinct(records: Sequence[Record]) -> list[Record]:
    """Without the candidate where another variant has its very settings."""
    return [
        one
        for one in records
        if one.model.variant != CANDIDATE
        or not any(
            one.settings == other.settings and one.model[1:] == other.model[1:]
            for other in records
            if other is not one
        )
    ]


def valid(record: Record, measure: str, split: str = "test") -> pd.DataFrame:
    """`measure` of the seeds that did not diverge: columns value, standard_error, n."""
    rows = record.per_seed(measure, split)
    return rows[~rows.index.isin(list(record.diverged))]


def best_of(records: Sequence[Record]) -> Record | None:
    """The variant `best`; without it the recursive model of lowest held-out error beside the plain
    one and the candidate."""
    fine = [record for record in records if not record.diverged]
    for record in fine:
        if record.model.variant == BEST:
            return record
    others = [
        record
        for record in fine
        if record.settings.training == "recursive"
        and not record.settings.variational
        and record.model.variant not in ("recursive", CANDIDATE)
    ]
    return min(others, key=lambda record: record.mean("error"), default=None)


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
