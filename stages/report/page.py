"""Table 1, the curves and the verdicts, as CSV, as a page and as lines for a terminal."""

import textwrap

import numpy as np
import pandas as pd

from stages.report.claims import RULES, Finding, Judgement
from stages.report.comparisons import (
    CONFIDENCE,
    SEED_DEVIATIONS,
    common_seeds,
    compare_each_image,
    compare_errors,
    number,
)
from stages.report.paper import PAPER
from stages.measure.records import MEASURES, Result, Results, distinct, label
from stages.common.settings import PUBLISHED

# The paper's two draws of 100 images give numbers up to 35 % apart: ours may lie a little outside.
NEAR = 1.25
CLARITY = (
    "high_frequency_ratio",
    "grid_ratio",
    "colour_shift",
    "contrast_ratio",
    "ssim",
    "ms_ssim",
    "faces_found",
)
# What the columns of table1.csv are called in reports/metrics, where they are not called the same.
HEADLINE = {key: f"test_{key}" for key in ("error", "error_sd", "error_se")}
MOMENTUM = 0.99  # what a norm's running statistic keeps of itself at every training step
UNCONVERGED = 0.01  # of its initial value still in a running statistic

CAPTIONS = {
    "figure4_samples.png": "Figure 4: what the variational autoencoders make of standard normal "
    "latents (first seed).",
    "figure5_errors.png": "Figure 5: held-out error of every model, a point a seed, with the "
    "paper's numbers.",
    "figure6_reconstructions.png": "Figure 6: the same held-out faces through every model (first "
    "seed), stacked on the left, recursive on the right, with the mean held-out error.",
    "figure6_published_wiring.png": "Figure 6 again, with the wiring of the authors' code.",
    "curves.png": "Held-out error by epoch (the band spans the seeds), and the training loss of "
    "each level of the recursive models.",
    "spectrum.png": "Radial power spectrum of the reconstructions, and its ratio to the input's: "
    "below 1 is blur, above is grain.",
    "depth.png": "Sensitivity: held-out error by epoch, and when an image is reconstructed from "
    "level 1, 2, ... 7 alone (the band spans the seeds).",
}


def table1(results: Results) -> pd.DataFrame:
    """A row for each model of Table 1, both variational autoencoders, and every other variant.

    error: on the held-out images, error_sd over the n seeds, error_se over images; train_error: on
    the training sample; published_*: the same with the authors' wiring; paper_*: the paper's
    numbers; explained_by: see `explained_by`; then what else was measured, means over seeds.
    Missing values are nan.
    """
    return pd.DataFrame([_row(results, name) for name in results.rows()])


def _row(results: Results, name: str) -> dict:
    result = results.found.get(name)
    published = results.found.get(PUBLISHED + name)
    paper = PAPER.get(name)
    headline = result.headline if result else {}
    other = published.headline if published else {}
    row = {"model": name, "label": label(name)}
    for key in ("error", "error_sd", "error_se", "n", "train_error", "train_error_sd"):
        row[key] = headline.get(HEADLINE.get(key, key))
    for key in ("error", "error_sd", "n", "train_error"):
        row[PUBLISHED + key] = other.get(HEADLINE.get(key, key))
    row["paper_table1"] = paper.table1 if paper else None
    row["paper_figure5"] = paper.figure5 if paper else None
    row["explained_by"] = explained_by(results, name)
    row |= {key: headline.get(key) for key in ("mse", "psnr", "ssim")}
    for measure in CLARITY:
        row.setdefault(measure, result.mean(measure) if result else None)
    row["sample_faces_found"] = result.mean("faces_found", "samples") if result else None
    return {key: np.nan if value is None else value for key, value in row.items()}


def explained_by(results: Results, name: str) -> str:
    """Which wiring gives the paper's number: "described", "published", "both" or "neither".

    A wiring does where a seed's error on the training sample (the paper measured on training
    images) lies between the paper's lowest number / NEAR and its highest * NEAR. "" where the paper
    has no number for the model, or neither wiring was evaluated.
    """
    if name not in PAPER:
        return ""
    wirings = {"described": name, "published": PUBLISHED + name}
    evaluated = [wiring for wiring, key in wirings.items() if key in results.found]
    low, high = PAPER[name].errors[0] / NEAR, PAPER[name].errors[-1] * NEAR
    explaining = []
    for wiring in evaluated:
        errors = results.found[wirings[wiring]].per_seed("error", "train").value
        if errors.between(low, high).any():
            explaining.append(wiring)
    if not evaluated:
        return ""
    return "both" if len(explaining) == 2 else explaining[0] if explaining else "neither"


def differences(results: Results) -> list[str]:
    """A sentence for each row of Table 1 whose number the method as described does not give."""
    sentences = []
    for name, paper in PAPER.items():
        explained = explained_by(results, name)
        if explained in ("", "described", "both"):
            continue
        numbers = " and ".join(str(error) for error in paper.errors)
        numbers += f" ({paper.note})" if paper.note else ""
        described, published = (results.found.get(prefix + name) for prefix in ("", PUBLISHED))
        gives = [
            f"as described {_training_errors(results, name)}",
            f"published wiring {_training_errors(results, PUBLISHED + name)}",
        ]
        if explained == "published":
            told = f"the published wiring explains the paper's {numbers}: {gives[1]}; {gives[0]}."
        elif described and published:
            first = _distance(described, paper.errors) < _distance(published, paper.errors)
            told = f"neither wiring explains the paper's {numbers}: {gives[0]}; {gives[1]}; "
            told += f"the {'former' if first else 'latter'} is nearer."
        else:
            told = f"nothing here explains the paper's {numbers}: {gives[0]}; {gives[1]}."
        sentences.append(f"**{paper.label}**: {told}")
    return sentences


def _training_errors(results: Results, name: str) -> str:
    if name not in results.found:
        return results.absence(name)
    errors = results.found[name].per_seed("error", "train").value
    if len(errors) == 1:
        return f"{errors.mean():.0f} (one seed)"
    return f"{errors.min():.0f} to {errors.max():.0f} ({len(errors)} seeds)"


def _distance(result: Result, paper: list[int]) -> float:
    """From the nearest of the paper's numbers, as a ratio's logarithm."""
    return float(np.abs(np.log(result.mean("error", "train") / np.array(paper))).min())


def curves(results: Results) -> pd.DataFrame:
    """Held-out error of every model, seed and epoch: model, seed, epoch, split, loss, value."""
    every = pd.concat([result.curve for result in results.found.values()], ignore_index=True)
    return every[every.loss == "error"]


def provenance(results: Results) -> str:
    """The data, the training and the measurement, in a few sentences."""
    test, sample = (
        int(max(model.per_seed("error", split).n.max() for model in results.found.values()))
        for split in ("test", "train")
    )
    settings = [model.settings for model in results.found.values()]
    count = f"{results.images['train']:,} " if results.images else ""
    steps = f" ({_span(_steps(results))} training steps)" if _steps(results) else ""
    text = (
        f"Dataset {results.dataset}: {count}training images; {test:,} held-out images of other "
        f"people. {_span([s.epochs for s in settings])} epochs{steps}, batches of "
        f"{_span([s.batch_size for s in settings])}, learning rate "
        f"{_span([s.lr for s in settings])}, {_span([len(s.seeds) for s in settings])} seed(s) a "
        "model (n). Errors are measured on the held-out images unless they say training, which is "
        f"a sample of {sample:,} training images."
    )
    if results.published():
        text += " With the published wiring, a model is trained on all images, held-out ones too."
    return text


def _span(values: list) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def caveats(results: Results) -> list[str]:
    """What forbids taking the verdicts as an answer to the paper."""
    told = []
    if not results.dataset.startswith("lfw"):
        told.append(
            f"These are {results.dataset} pictures, not the paper's: the verdicts below are about "
            "them."
        )
    steps = _steps(results, normed=True)
    if steps and MOMENTUM ** min(steps) > UNCONVERGED:
        told.append(
            f"Models with norms have not converged: after {min(steps)} training steps a norm's "
            f"running statistics still keep {MOMENTUM ** min(steps):.0%} of their start."
        )
    return told


def _steps(results: Results, normed: bool = False) -> list[int]:
    """Training steps of each model as described, or of those with norms; none where unknown."""
    return [
        model.settings.epochs * (results.images["train"] // model.settings.batch_size)
        for model in results.described()
        if results.images and (not normed or model.settings.norm != "none")
    ]


# The page.


def page(results: Results, judgements: list[Judgement], drawn: list[str]) -> str:
    """reports/README.md. `drawn`: the figures there are."""
    parts = [
        "# Results",
        "Written by `stages/plot.py` from what the models' evaluation measured; nothing here is "
        "typed in.",
        provenance(results),
        *(f"**{caveat}**" for caveat in caveats(results)),
        "## Which of the paper's claims hold?",
        _markdown(
            ["", "claim", "verdict"],
            [[j.claim.number, j.claim.statement, f"**{j.verdict}**"] for j in judgements],
        ),
        "## Table 1",
        "Squared error summed over an image's 49,152 values, mean over images ± standard deviation "
        f"over seeds (n). {_standard_errors(results)} `table1.csv` has more columns.",
        _table1_markdown(results),
        _explanation(results),
        *(f"- {sentence}" for sentence in differences(results)),
        *_figure("figure5_errors.png", drawn),
        "## The nine claims",
        *(section for judgement in judgements for section in _claim(judgement, drawn)),
        "## Recursive against stacked",
        *_twins(results),
        "## Clarity",
        *_clarity(results),
        *_figure("figure6_reconstructions.png", drawn),
        *_figure("figure6_published_wiring.png", drawn),
        *_figure("spectrum.png", drawn),
        "## Samples",
        *_figure("figure4_samples.png", drawn),
        "## Training and sensitivity",
        *_figure("curves.png", drawn),
        *_figure("depth.png", drawn),
        "## How a verdict is reached",
        RULES,
    ]
    lines = []
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        lines.append(part)
        if not (part.startswith("- ") and following.startswith("- ")):
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _markdown(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _figure(name: str, drawn: list[str]) -> list[str]:
    return [f"![{CAPTIONS[name]}](figures/{name})", f"*{CAPTIONS[name]}*"] if name in drawn else []


def _mean_sd(mean: float, sd: float, n: float) -> str:
    if pd.isna(mean):
        return "-"
    return f"{mean:.0f} ± {sd:.0f} ({n:.0f})" if pd.notna(sd) else f"{mean:.0f} ({n:.0f})"


def _plain(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.0f}"


def _table1_cells(row: pd.Series) -> list[str]:
    return [
        row.label,
        _mean_sd(row.error, row.error_sd, row.n),
        _mean_sd(row.train_error, row.train_error_sd, row.n),
        _mean_sd(row.published_error, row.published_error_sd, row.published_n),
        _plain(row.paper_table1),
        _plain(row.paper_figure5),
        row.explained_by or "-",
    ]


def _table1_markdown(results: Results) -> str:
    header = [
        "model",
        "ours",
        "… on training images",
        "with the published wiring",
        "paper: Table 1",
        "paper: Figure 5",
        "paper explained by",
    ]
    return _markdown(header, [_table1_cells(row) for _, row in table1(results).iterrows()])


def _standard_errors(results: Results) -> str:
    headlines = [model.headline for model in results.described()]
    shares = [row["test_error_se"] / row["test_error"] for row in headlines if row["test_error_se"]]
    if not shares:
        return ""
    return f"The standard error over images is at most {max(shares):.1%} of the mean."


def _explanation(results: Results) -> str:
    absent = [
        f"{label(name)}: {results.absence(name)}" for name in PAPER if name not in results.found
    ]
    text = (
        "The paper measured on training images. A wiring explains its number where the errors of "
        f"its seeds on training images come within a factor of {NEAR:g} of the paper's two numbers "
        "or lie between them: these are two draws of 100 images and differ by up to 35 %."
    )
    return text + (f" Missing: {'; '.join(absent)}." if absent else "")


def _claim(judgement: Judgement, drawn: list[str]) -> list[str]:
    claim = judgement.claim
    rows = [
        [one.question, _cell(one), _cell(other)]
        for one, other in zip(judgement.described, judgement.published, strict=True)
    ]
    look = f"See [{claim.figure}](figures/{claim.figure})." if claim.figure in drawn else ""
    return [
        f"### {claim.number}. {claim.statement}: {judgement.verdict}",
        f"The paper: {claim.paper} {look}".rstrip(),
        _markdown(["asked", "as described", "published wiring"], rows),
    ]


def _cell(finding: Finding) -> str:
    return f"**{finding.answer}**: {finding.evidence}"


def _twins(results: Results) -> list[str]:
    shown = distinct(list(results.found.values()))
    pairs = [pair for pair in results.twins() if pair[0] in shown]
    if not pairs:
        return ["No recursive model has a stacked one of otherwise the same settings."]
    rows = []
    for recursive, stacked in pairs:
        if not common_seeds(recursive, stacked):
            rows.append([recursive.label, stacked.label, "no seed in common", *["-"] * 4])
            continue
        effect = compare_errors(recursive, stacked)
        mean, (low, high), share = compare_each_image(recursive, stacked)
        rows.append(
            [
                recursive.label,
                stacked.label,
                f"{number(np.exp(effect.value))} ({effect.interval(effect.images)})",
                effect.interval(effect.seeds) if effect.seeds else "one seed",
                effect.n,
                f"{number(mean)} ({number(low)} to {number(high)})",
                f"{share:.0%}",
            ]
        )
    header = [
        "recursive",
        "stacked twin",
        f"ratio of mean errors ({CONFIDENCE:.0%} over images)",
        f"± {SEED_DEVIATIONS:g} sd over seeds",
        "seeds",
        f"mean ratio of an image's errors ({CONFIDENCE:.0%} over images)",
        "images better recursive",
    ]
    text = "Held-out error of a recursive model over that of its stacked twin, paired by image and "
    text += "seed: below 1, recursive is better."
    return [text, _markdown(header, rows)]


def _clarity(results: Results) -> list[str]:
    models = distinct(list(results.found.values()))
    measures = [m for m in CLARITY if any(len(model.per_seed(m)) for model in models)]
    rates = {
        kind: np.nanmean([model.mean(f"{kind}_faces_found") for model in models])
        for kind in ("input", "noise")
        if any(len(model.per_seed(f"{kind}_faces_found")) for model in models)
    }
    unspoilt = {"colour_shift": "0", "faces_found": f"{rates.get('input', np.nan):.1%}"}
    rows = [["*input*", *(unspoilt.get(measure, "1") for measure in measures), "-"]]
    if "noise" in rates:
        cells = [f"{rates['noise']:.1%}" if m == "faces_found" else "-" for m in measures]
        rows.append(["*noise*", *cells, "-"])
    for model in models:
        cells = [_measure(model, measure) for measure in measures]
        rows.append([model.label, *cells, _measure(model, "faces_found", "samples")])
    text = (
        "Reconstructions of the held-out images beside the input, mean ± standard deviation over "
        "seeds. Share of high frequencies, over the input's: 1 is as sharp, below is blur, above "
        "is grain. Grid ratio: energy at the frequencies of a stride's grid over its neighbours, "
        "beside the input's. Faces found: the share in which a face detector finds a face."
    )
    header = ["model", *(MEASURES[m] for m in measures), "faces found in samples"]
    return [text, _markdown(header, rows)]


def _measure(model: Result, measure: str, split: str = "test") -> str:
    values = model.per_seed(measure, split).value
    if not len(values):
        return "-"
    share = measure == "faces_found"
    numbers = [values.mean()] + ([values.std()] if len(values) > 1 else [])
    return " ± ".join(f"{x:.1%}" if share else number(x) for x in numbers)


# The terminal.


RULE = "-" * 94


def summary(results: Results, judgements: list[Judgement]) -> str:
    """Table 1 and the verdicts in lines of at most 100 characters."""
    row = "{:<29}{:>15} {:>15} {:>8} {:>9}  {}".format
    lines = [
        "Held-out reconstruction error, mean ± sd over seeds (n)",
        row("", "", "published", "paper:", "", "paper").rstrip(),
        row("model", "ours", "wiring", "Table 1", "Figure 5", "explained by"),
        RULE,
    ]
    for _, model in table1(results).iterrows():
        cells = _table1_cells(model)
        lines.append(row(cells[0][:28], cells[1], *cells[3:]))
    lines += [
        "",
        *_wrap(provenance(results)),
        *(line for c in caveats(results) for line in _wrap(c)),
    ]
    lines += ["", "The paper's claims", RULE]
    lines += [f"{j.claim.number} {j.claim.statement:<58} {j.verdict}" for j in judgements]
    return "\n".join(lines)


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, 98)
