"""The page's tables of numbers: Table 1, recursive against stacked, clarity."""

import numpy as np
import pandas as pd

from stages.common.settings import CANDIDATE, IMPLEMENTATIONS, WEIGHTS
from stages.measure.measures import MEASURES
from stages.measure.records import Model, Record, Records
from stages.report import markdown
from stages.report.comparisons import compare, compare_each_image
from stages.report.effect import number
from stages.report.inference import CONFIDENCE, prediction_interval
from stages.report.models import BEST, absence, distinct, models, twins, valid, variants
from stages.report.paper import IMPLEMENTATION_LABELS, PAPER, WEIGHTS_LABELS, label, rank
from stages.report.tables import NEAR, explained_by
from stages.report.words import mean_sd, plain

# What Table 1 does not tell, and what an unspoilt picture has of it.
CLARITY = [name for name in MEASURES if name != "mse" and "error" not in name]
UNSPOILT = {"ssim": "1", "ms_ssim": "1", "colour_shift": "0"}
# What is told of a variant beyond the paper, beside the error.
BESIDE = ("high_frequency_ratio", "grid_ratio", "ssim")
# The stacked training that was searched for as long as `best`.
TUNED = "stacked_tuned"
LOWEST = "recursive_then_stacked"  # what that search found, clear or not


def table1(records: Records) -> list[str]:
    """The paper's table with ours beside it, and what explains the paper's numbers."""
    kinds = [(each, weights) for each in IMPLEMENTATIONS for weights in WEIGHTS]
    header = ["model", *(f"{IMPLEMENTATION_LABELS[i]}, {WEIGHTS_LABELS[w]}" for i, w in kinds)]
    header += ["paper: Table 1", "paper: Figure 5"]
    rows = []
    for variant in variants(records):
        found = [records.found.get(Model(variant, *kind)) for kind in kinds]
        cells = [mean_sd(record) for record in found]
        paper = PAPER.get(variant)
        cells += [plain(paper.table1 if paper else None), plain(paper.figure5 if paper else None)]
        rows.append([label(variant), *cells])
    return [
        "Squared error summed over an image's 49,152 values, mean over images ± standard deviation "
        "over seeds (n; n/all where some diverged). "
        f"{_standard_errors(records)} `table1.csv` has more columns.",
        markdown.table(header, rows),
        *_explanations(records),
    ]


def _standard_errors(records: Records) -> str:
    rows = pd.concat([valid(record, "error") for record in records.found.values()])
    relative = (rows.standard_error / rows.value).max()
    if not np.isfinite(relative):
        return ""
    return f"The standard error over images is at most {relative:.1%} of a seed's mean."


def _explanations(records: Records) -> list[str]:
    """The paper's numbers beside ours on training images, where the paper measured."""
    header = ["model", "paper"]
    for implementation in IMPLEMENTATIONS:
        header += [IMPLEMENTATION_LABELS[implementation], "one more training"]
    rows = []
    for variant, paper in PAPER.items():
        row = [paper.label, "; ".join(filter(None, (paper.printed, paper.note)))]
        for implementation in IMPLEMENTATIONS:
            row += _on_training_images(records, Model(variant, implementation, "last_step"))
        rows.append([*row, explained_by(records, variant) or "-"])
    text = (
        "The paper measured on training images, at the last step. Ours there, mean ± standard "
        "deviation over seeds (n), and where one more training would lie: "
        f"{CONFIDENCE:.0%}, by Student's t on the error's logarithm, **bold** where a number of "
        "the paper does: not excluded, no more, and little where the span is wide. An "
        "implementation explains a number where its mean comes within a factor "
        f"of {NEAR:g} of the paper's two or lies between them: these are two draws of 100 images "
        "and differ by up to 35 %."
    )
    return [text, markdown.table([*header, "explained by"], rows)]


def _on_training_images(records: Records, model: Model) -> list[str]:
    """The error, and where that of one more training would lie."""
    record = records.found.get(model)
    if record is None:
        return [absence(records, model), "-"]
    told = mean_sd(record, "error", "train")
    interval = prediction_interval(np.log(valid(record, "error", "train").value), CONFIDENCE)
    if interval is None or record.diverged:
        return [told, "-"]
    low, high = np.exp(interval)
    inside = any(low <= error <= high for error in PAPER[model.variant].errors)
    span = f"{low:.0f} to {high:.0f}"
    return [told, f"**{span}**" if inside else span]


def recursive_against_stacked(records: Records) -> list[str]:
    """Each recursive model beside the stacked one of otherwise the same settings."""
    pairs = [pair for shown in _kinds(records) for pair in twins(shown)]
    pairs.sort(key=lambda pair: rank(pair[0].model.variant))
    rows = [_pair(*pair) for pair in pairs]
    if not rows:
        return ["No recursive model has a stacked one of otherwise the same settings."]
    header = [
        "recursive",
        "stacked twin",
        "implementation",
        "weights",
        "ratio of mean errors",
        f"{CONFIDENCE:.0%} over seeds",
        f"{CONFIDENCE:.0%} over images",
        "seeds",
        "one seed of recursive is better",
        f"mean ratio of an image's errors ({CONFIDENCE:.0%} over images)",
        "images better recursive",
    ]
    text = (
        "Held-out error of a recursive model over that of its stacked twin, paired by image and "
        "seed: below 1, recursive is better."
    )
    return [text, markdown.table(header, rows)]


def _pair(recursive: Record, stacked: Record) -> list[object]:
    model = recursive.model
    named: list[object] = [label(model.variant), label(stacked.model.variant)]
    named += [IMPLEMENTATION_LABELS[model.implementation], WEIGHTS_LABELS[model.weights]]
    effect = compare("error", recursive, stacked)
    if effect is None:
        return [*named, "no seed in common", *["-"] * 6]
    mean, (low, high), fraction = compare_each_image(recursive, stacked)
    return [
        *named,
        number(float(np.exp(effect.mean))),
        effect.interval(effect.seeds[0]) if effect.seeds else "one seed",
        effect.interval(effect.images[0]),
        effect.n,
        f"{effect.agreement('lower'):.0%}" if effect.n > 1 else "-",
        f"{number(mean)} ({number(low)} to {number(high)})",
        f"{fraction:.0%}",
    ]


def beyond(records: Records, searched: str = "") -> list[str]:
    """Every variant that is neither the paper's nor the candidate, beside the paper's two; nothing
    where there is none. searched: how much was, for the variant `best`."""
    averaged = {one.model.variant: one for one in models(records, "described", "averaged")}
    own = [one for name, one in averaged.items() if name not in (*PAPER, CANDIDATE)]
    if not own:
        return []
    beside = [averaged[name] for name in ("stacked", TUNED, "recursive") if name in averaged]
    usual = beside[0].settings.model_dump() if beside else {}
    rows = []
    for one in own:
        changed = [
            f"{key} {value}"
            for key, value in one.settings.model_dump().items()
            if value != usual.get(key)
        ]
        row: list[object] = [label(one.model.variant), ", ".join(changed), mean_sd(one)]
        row += [_against("error", one, other) for other in beside]
        row += [_against(measure, one, beside[0]) for measure in BESIDE] if beside else []
        rows.append(row)
    others = f", unlike {label(beside[0].model.variant)}" if beside else ""
    header = ["model", f"settings{others}", "error"]
    header += [f"error over that of {label(other.model.variant)}" for other in beside]
    first = f", beside {label(beside[0].model.variant)}" if beside else ""
    header += [f"{MEASURES[measure].label}{first}" for measure in BESIDE] if beside else []
    text = (
        "Averaged weights, held-out people. Ratios, and for SSIM the difference, are means over "
        f"the seeds that both models have, with their {CONFIDENCE:.0%} interval over seeds. "
    )
    if BEST in averaged:
        text += (
            f"`best` and `{TUNED}` were searched for with the same budget on a validation part of "
            f"the training people{searched} ([how](../studies/search.py), [all trials]"
            "(studies/search/trials.csv)). `best` has the lowest error of any training, multiplied "
            "by one plus the fractions by which it misses twice the high frequencies of `stacked` "
            f"and a grid ratio of 2; `{TUNED}` the lowest error of any stacked training."
        )
    if BEST in averaged and LOWEST in averaged:
        text += f" `{LOWEST}` was the finalist of lowest error, however clear."
    return ["## Beyond the paper", text, markdown.table(header, rows)]


def _against(measure: str, one: Record, other: Record) -> str:
    effect = None if one is other else compare(measure, one, other)
    return effect.estimate if effect else "-"


def clarity(records: Records) -> list[str]:
    """What was measured of the pictures, beside the input and, for faces, noise."""
    shown = [record for kind in _kinds(records) for record in kind]
    shown.sort(key=lambda record: rank(record.model.variant))
    measures = [m for m in CLARITY if any(len(record.per_seed(m)) for record in shown)]
    rows: list[list[object]] = [
        [f"*{of}*", "-", "-", "-", *(_of(records, of, measure) for measure in measures), "-"]
        for of in ("input", "noise")
    ]
    for record in shown:
        model, n = record.model, len(record.seeds) - len(record.diverged)
        named = [IMPLEMENTATION_LABELS[model.implementation], WEIGHTS_LABELS[model.weights], n]
        cells = [_cell(record, measure) for measure in measures]
        in_samples = _cell(record, "faces_found", "samples")
        rows.append([label(model.variant), *named, *cells, in_samples])
    text = (
        "Reconstructions of the held-out images beside the input, mean ± standard deviation over "
        "the seeds (n). Fraction of high frequencies, over the input's: 1 is as sharp, below is "
        "blur, above is grain; sharpness is that or its inverse, whichever is below 1. Grid ratio: "
        "energy at the frequencies of a stride's grid over its neighbours, beside the input's. "
        "Faces found: the fraction of pictures in which a face detector finds a face."
    )
    header = ["model", "implementation", "weights", "n", *(MEASURES[m].label for m in measures)]
    return [text, markdown.table([*header, "faces found in samples"], rows)]


def _kinds(records: Records) -> list[list[Record]]:
    """The models of each implementation and kind of weights."""
    return [
        distinct(models(records, implementation, weights))
        for implementation in IMPLEMENTATIONS
        for weights in WEIGHTS
    ]


def _of(records: Records, of: str, measure: str) -> str:
    """The input's or noise's own value of a measure."""
    if (of, measure) in records.references.measures.index:
        value = float(records.references.measures.xs(of)["value"][measure])
        return f"{value:.1%}" if measure == "faces_found" else number(value)
    if of != "input":
        return "-"
    return UNSPOILT.get(measure, "1" if MEASURES[measure].comparison == "ratio" else "-")


def _cell(record: Record, measure: str, split: str = "test") -> str:
    values = valid(record, measure, split).value
    if not len(values):
        return "-"
    numbers = [values.mean()] + ([values.std()] if len(values) > 1 else [])
    rate = measure == "faces_found"
    return " ± ".join(f"{x:.1%}" if rate else number(x) for x in numbers)
