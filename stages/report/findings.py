"""Everything that the report says, computed once; text/ and html/ lay it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from stages.common.settings import CANDIDATE, IMPLEMENTATIONS, WEIGHTS, Implementation, Weights
from stages.measure.measures import MEASURES
from stages.measure.records import Model, Record, Records
from stages.report.catalogue import (
    IMPLEMENTATION_LABELS,
    KINDS,
    PAPER,
    WEIGHTS_LABELS,
    Mean,
    distinct,
    error_by_epoch,
    label,
    mean_of,
    models,
    rank,
    twins,
    valid,
)
from stages.report.claims import (
    AFTERWARDS,
    CLAIMS,
    WITHOUT_SHARED,
    Comparison,
    Finding,
    Judgement,
    Readings,
    Spread,
    answer,
    dependence,
    judge_all,
    robustness,
)
from stages.report.statistics import CONFIDENCE, Compared, compare, number
from stages.report.studies import Studies, paired_ratio, with_statistics
from stages.report.tables import Row, table1

# What an unspoilt picture has of a measure.
UNSPOILT = {"ssim": "1", "ms_ssim": "1", "colour_shift": "0"}
# What is told of a variant beyond the paper, beside the error.
BESIDE = ("high_frequency_ratio", "grid_ratio", "ssim")
TUNED = "stacked_tuned"  # the stacked training that was searched for
VAES = ("stacked_vae", "recursive_vae")
# The same, with the weight of the divergence that the other has beside the summed error.
OTHER_WEIGHT = {f"{vae}_weight_of_{o.removesuffix('_vae')}": vae for vae, o in (VAES, VAES[::-1])}
SPANNED = ("epochs", "batch_size", "lr")  # settings of which the report tells the span
MOMENTUM = 0.99  # what a norm's running statistic keeps of itself at every training step
UNCONVERGED = 0.01  # of its initial value still in a running statistic
NO_STUDIES = Studies()
# What the sentences on top compare, by name.
ERROR = Comparison("recursive", "lower", "error", "stacked")
LONGER = Comparison("recursive_20_epochs", "lower", "error", "stacked_20_epochs")
BATCH_NORM = Comparison("recursive_bn", "lower", "error", "recursive")
FACTS: dict[str, tuple[Comparison | Spread, Implementation, Weights]] = {
    "last_step": (ERROR, "described", "last_step"),
    "averaged": (ERROR, "described", "averaged"),
    "twenty": (LONGER, "described", "averaged"),
    "batch_norm": (BATCH_NORM, "described", "last_step"),
    "as_released": (BATCH_NORM, "released", "last_step"),
    "spread": (WITHOUT_SHARED, "described", "last_step"),
}
# How else norms may normalise in evaluation: the best of these KINDS of statistics is chosen.
STATISTICS = {
    "the statistics of the batch": ("of_batch",),
    "each model's better statistics": ("running", "of_batch"),
    "population statistics": ("population",),
}
# Readings with other models in place of those that a claim names.
IN_PLACE = {
    "with the other training's weight of the divergence": OTHER_WEIGHT,
    "after 20 epochs": {f"{name}_20_epochs": name for name in ("stacked", "recursive")},
}


Asked = tuple[str, Weights, list[Finding]]  # a question, and an answer of each that is asked
Table = tuple[list[str], list[list[object]]]  # its header and its rows


@dataclass(frozen=True)
class Findings:
    """provenance: what the numbers are of; what differs between models as a span, "10 to 40".
    start: the model with a norm that was trained for the fewest steps, these, and what its running
    statistics keep of their start, where that matters. facts: the numbers of the sentences on top,
    by name. judgements: by claim, of each kind of weights. readings: see `robustness`; depends:
    what they say of each claim, in words. statistics: by claim, what models with a norm answer with
    each of STATISTICS. afterwards: of each reason to ask, what each implementation answers."""

    provenance: dict[str, Any]
    start: tuple[str, int, float] | None
    facts: dict[str, Compared | None]
    lead: Table  # where recursive training leads
    judgements: list[tuple[Judgement, ...]]
    readings: Readings
    depends: list[str]
    statistics: dict[int, list[Asked]]
    afterwards: list[tuple[str, list[Asked]]]
    table: list[Row]
    standard_error: float  # the largest over images, of a seed's mean
    pairs: list[list[object]]
    beyond: Table
    clarity: Table
    studies: Studies

    @property
    def shown(self) -> list[Row]:
        """The rows of Table 1; of pictures of one's own, those that were evaluated."""
        own = self.provenance["own"]
        return [row for row in self.table if not own or len(row.absent) < len(KINDS)]

    @property
    def samples(self) -> dict[str, float]:
        """How often a face is found in samples, averaged weights, of the paper's VAES and of those
        with the other's weight; empty where not all four were measured."""
        names = [*VAES, *OTHER_WEIGHT]
        means = {row.variant: row.means["described", "averaged"] for row in self.table}
        drawn = [means.get(name, {}).get("sample_faces_found") for name in names]
        values = [mean.value for mean in drawn if mean and mean.n]
        return dict(zip(names, values, strict=True)) if len(values) == len(names) else {}


def find(records: Records, studies: Studies = NO_STUDIES) -> Findings:
    table, statistics = table1(records), {}
    if studies.norms:
        errors = studies.norms["errors"]
        statistics = {
            f"with {name}": with_statistics(records, errors, kinds)
            for name, kinds in STATISTICS.items()
        }
    others = {name: one for name, of in IN_PLACE.items() if (one := in_place(records, of)).found}
    verdicts = judge_all(records)
    readings = robustness(verdicts, records, statistics | others)
    both = [(records, how) for how in IMPLEMENTATIONS]
    facts = {
        name: answer(question, records, how, weights).compared
        for name, (question, how, weights) in FACTS.items()
    }
    return Findings(
        provenance=_provenance(records),
        start=_start(records),
        facts=facts,
        lead=_lead(records, facts, studies),
        judgements=[*zip(*verdicts.values(), strict=True)],
        readings=readings,
        statistics=_statistics(records, statistics),
        depends=dependence(readings),
        afterwards=[
            (reason, [line for question in questions for line in _asked(question, both)])
            for reason, questions in AFTERWARDS
        ],
        table=table,
        standard_error=_standard_error(records),
        pairs=_pairs(records),
        beyond=_beyond(records, studies.pace if records.size == 128 else {}),
        clarity=_clarity(records, table),
        studies=studies,
    )


def _lead(records: Records, facts: Mapping[str, Compared | None], studies: Studies) -> Table:
    """The error of recursive over that of stacked training, wherever it was asked."""
    model = records.found.get(Model("recursive", "described", "last_step"))
    epochs = model.settings.epochs if model else 0
    longer, reach = studies.longer or {}, studies.reach or {}
    small = f"{reach.get('size')} pixels, "
    shallower, smaller = (
        [row for row in studies.depth if (row["size"] == records.size) is same]
        for same in (True, False)
    )
    depths = {f"with {row['levels']} levels": row for row in shallower[:-1][-1:]}
    depths |= {f"{row['size']} pixels, {row['levels']} levels": row for row in smaller[-1:]}
    rows = [
        ("at the last step, the paper's protocol", epochs, facts["last_step"]),
        ("with averaged weights, as all below", epochs, facts["averaged"]),
    ]
    for told, of in depths.items():
        rows.append((told, epochs, Compared(of["ratio"], of["low"], of["high"], of["n"])))
    rows.append(("at the paper's learning rate", 2 * epochs, facts["twenty"]))
    cost = longer.get("falling_rate")
    falling = "at a rate that falls to zero"
    studied = {
        "at the paper's learning rate": longer.get("constant"),
        falling + ", bad for stacked" * bool(cost and cost["error"].low > 1): longer.get("cosine"),
        "at the better rate for each (falling, constant)": longer.get("better_rates"),
        "the same, over stacked_tuned": longer.get("tuned"),
        small + falling: reach.get("lasting"),
        small + "the same, losses through up to 3 levels": reach.get("few_lasting"),
        small + "the best of each that a search found": reach.get("winners"),
    }
    rows += [(told, one["epochs"], one["error"]) for told, one in studied.items() if one]
    header = ["error of recursive over stacked training", "epochs", f"{CONFIDENCE:.0%}", "seeds"]
    return header, [
        [told, n, f"{number(of.value)} ({number(of.low)} to {number(of.high)})", of.n]
        for told, n, of in rows
        if of
    ]


def in_place(records: Records, names: Mapping[str, str]) -> Records:
    """The records of the models `names`, by the name that they stand for, and no others; nothing
    where one of them is missing."""
    found = {
        model._replace(variant=names[model.variant]): record
        for model, record in records.found.items()
        if model.variant in names
    }
    whole = {model.variant for model in found} == {*names.values()}
    return replace(records, found=found if whole else {})


def _asked(
    question: Comparison | Spread, of: Sequence[tuple[Records, Implementation]]
) -> list[Asked]:
    return [
        (question.question, weights, [answer(question, one, how, weights) for one, how in of])
        for weights in WEIGHTS
    ]


def _statistics(records: Records, others: Mapping[str, Records]) -> dict[int, list[Asked]]:
    """What models with a norm answer with other statistics, of errors and of their spread."""
    normed = {one.model.variant for one in records.found.values() if one.settings.norm != "none"}
    of: list[tuple[Records, Implementation]] = [(one, "described") for one in others.values()]
    return {
        claim.number: [
            line
            for question in claim.questions
            if normed & {*question.variants} and getattr(question, "measure", "error") == "error"
            for line in _asked(question, of)
            if any(finding.answer != "missing" for finding in line[2])
        ]
        for claim in CLAIMS
    }


def _provenance(records: Records) -> dict[str, Any]:
    found = list(records.found.values())
    described = models(records, "described", "last_step")
    spans = {name: [getattr(one.settings, name) for one in found] for name in SPANNED}
    spans["steps"] = [_steps(records, record) for record in described]
    spans["seeds"] = [len(record.seeds) for record in found]
    return {
        "dataset": records.dataset,
        "own": records.dataset == "own",
        "size": records.size,
        "image_values": f"{3 * records.size**2:,}",
        "too_small_for": [one.label for one in MEASURES.values() if one.smallest > records.size],
        "people": records.people,
        "mean_picture": records.references.measures["value"].get(("mean", "error")),
        "training_images": records.images["train"],
        "measured": {
            split: int(max(record.per_seed("error", split).n.max() for record in found))
            for split in ("test", "train")
        },
        "released": bool(models(records, "released", "last_step")),
        "machines": sorted({machine for record in found for machine in record.machines}),
        **{name: _span(values) for name, values in spans.items()},
    }


def _start(records: Records) -> tuple[str, int, float] | None:
    normed = [
        (_steps(records, record), label(record.model.variant))
        for record in models(records, "described", "last_step")
        if record.settings.norm != "none"
    ]
    steps, name = min(normed, default=(0, ""))
    left = MOMENTUM**steps
    return (name, steps, left) if steps and left > UNCONVERGED else None


def _span(values: Sequence[float]) -> str:
    return " to ".join(f"{value:g}" for value in sorted({min(values), max(values)}))


def _steps(records: Records, record: Record) -> int:
    """Training steps of a model as described."""
    return record.settings.epochs * (records.images["train"] // record.settings.batch_size)


def _standard_error(records: Records) -> float:
    rows = pd.concat([valid(record, "error") for record in records.found.values()])
    return float((rows.standard_error / rows.value).max())


def _kinds(records: Records) -> list[list[Record]]:
    """The models of each implementation and kind of weights."""
    return [distinct(models(records, *kind)) for kind in KINDS]


def _pairs(records: Records) -> list[list[object]]:
    """Each recursive model beside the stacked one of otherwise the same settings."""
    pairs = [pair for shown in _kinds(records) for pair in twins(shown)]
    return [_pair(*pair) for pair in sorted(pairs, key=lambda pair: rank(pair[0].model.variant))]


def _pair(recursive: Record, stacked: Record) -> list[object]:
    variant, how, weights = recursive.model
    compared: list[object] = ["not compared", *["-"] * 4]
    if effect := compare("error", recursive, stacked):
        compared = [
            number(float(np.exp(effect.mean))),
            effect.interval(effect.seeds) if effect.seeds else "one seed",
            effect.interval(effect.images),
            effect.n,
            f"{effect.agreement('lower'):.0%}" if effect.n > 1 else "-",
        ]
    models = label(variant), label(stacked.model.variant)
    return [*models, IMPLEMENTATION_LABELS[how], WEIGHTS_LABELS[weights], *compared]


def _beyond(records: Records, pace: Mapping[str, float]) -> Table:
    """Every variant that is neither the paper's nor the candidate, beside the paper's two; no row
    where there is none. pace: seconds that an epoch takes, by variant; of 128 pixels."""
    averaged = {one.model.variant: one for one in models(records, "described", "averaged")}
    own = [one for name, one in averaged.items() if name not in (*PAPER, CANDIDATE)]
    beside = [averaged[name] for name in ("stacked", TUNED, "recursive") if name in averaged]
    usual = beside[0].settings.model_dump() if beside else {}
    first = label(beside[0].model.variant) if beside else ""
    header = ["model", f"settings, unlike {first}" if beside else "settings", "error"]
    for other in beside:
        header += [f"error over that of {label(other.model.variant)}", "at equal seconds"]
    measures = [measure for measure in BESIDE if beside and measure in records.measures]
    header += [f"{MEASURES[measure].label}, beside {first}" for measure in measures]
    rows = []
    for one in own:
        changed = [
            f"{key} {value}"
            for key, value in one.settings.model_dump().items()
            if value != usual.get(key)
        ]
        row: list[object] = [label(one.model.variant), ", ".join(changed), mean_of(one)]
        for other in beside:
            row += [_against("error", one, other), _at_equal_seconds(one, other, pace)]
        row += [_against(measure, one, beside[0]) for measure in measures]
        rows.append(row)
    return header, rows


def _against(measure: str, one: Record, other: Record) -> str:
    effect = None if one is other else compare(measure, one, other)
    return effect.estimate if effect else "-"


def _at_equal_seconds(one: Record, other: Record, pace: Mapping[str, float]) -> str:
    """As the error's `_against`, on averaged weights, where the training that takes longer ends
    with the last epoch for which there is time. "-" where it cannot be cut, as its end is planned,
    and where a seed diverged."""
    names = [record.model.variant for record in (one, other)]
    if one is other or one.diverged or other.diverged or not {*names} <= pace.keys():
        return "-"
    time = min(record.settings.epochs * pace[record.model.variant] for record in (one, other))
    errors = []
    for record in (one, other):
        settings, curve = record.settings, error_by_epoch(record, "averaged")
        epoch = int(time / pace[record.model.variant] + 1e-9)
        planned = settings.schedule != "constant" or settings.stacked_epochs
        if epoch < settings.epochs and (planned or not epoch):
            return "-"
        errors.append(curve[curve["epoch"] == epoch].set_index("seed")["value"])
    ratio = paired_ratio(*errors)
    return "{} ({} to {})".format(*map(number, ratio[:3])) if ratio else "-"


def _clarity(records: Records, table: Sequence[Row]) -> Table:
    """What was measured of the pictures, beside the input and, for faces, noise."""
    shown = {record.model for kind in _kinds(records) for record in kind}
    found = [
        (row.label, kind, row.means[kind])
        for row in table
        for kind in KINDS
        if Model(row.variant, *kind) in shown
    ]
    clear = [m for m in records.measures if m != "mse" and "error" not in m]
    measures = [m for m in clear if any(means[m].n for _, _, means in found)]
    drawn = ["sample_faces_found"] if "faces_found" in measures else []
    rows: list[list[object]] = [
        [of, *"---", *(_of(records, of, measure) for measure in measures), *"-" * len(drawn)]
        for of in ("input", "noise")
    ]
    for name, (how, weights), means in found:
        named = [name, IMPLEMENTATION_LABELS[how], WEIGHTS_LABELS[weights], means["error"].n]
        rows.append([*named, *(_cell(m, means[m]) for m in (*measures, *drawn))])
    header = ["model", "implementation", "weights", "n", *(MEASURES[m].label for m in measures)]
    return header + ["faces found in samples"] * len(drawn), rows


def _of(records: Records, of: str, measure: str) -> str:
    """The input's or noise's own value of a measure."""
    if (of, measure) in records.references.measures.index:
        value = float(records.references.measures.xs(of)["value"][measure])
        return f"{value:.1%}" if measure == "faces_found" else number(value)
    if of != "input":
        return "-"
    return UNSPOILT.get(measure, "1" if MEASURES[measure].comparison == "ratio" else "-")


def _cell(measure: str, mean: Mean) -> str:
    numbers = [mean.value, mean.deviation][: mean.n]
    rate = measure.endswith("faces_found")
    return " ± ".join(f"{x:.1%}" if rate else number(x) for x in numbers) or "-"
