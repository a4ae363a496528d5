"""What `dvc repro` shows at its end: Table 1 and the verdicts, at most 100 columns wide."""

import textwrap

from stages.measure.records import Model, Records
from stages.report.claims import Verdicts
from stages.report.models import variants
from stages.report.paper import PAPER, label
from stages.report.words import caveats, mean_sd, plain, provenance

WIDTH = 100
RULE = "-" * WIDTH
ROW = "{:<28}{:>20}{:>20}{:>20}{:>6}{:>6}".format
CLAIM = "{:<62}{:<18}{}".format


def summary(records: Records, verdicts: Verdicts) -> str:
    """Table 1 and the verdicts in lines of at most WIDTH characters."""
    lines = [
        "Held-out reconstruction error, mean ± standard deviation over seeds (n)",
        ROW("", "as described", "as described", "as released", "paper", "paper"),
        ROW("model", "last step", "averaged", "last step", "Tab 1", "Fig 5"),
        RULE,
    ]
    for variant in variants(records):
        errors = (
            mean_sd(records.found.get(model))
            for model in (
                Model(variant, "described", "last_step"),
                Model(variant, "described", "averaged"),
                Model(variant, "released", "last_step"),
            )
        )
        paper = PAPER.get(variant)
        lines.append(
            ROW(
                label(variant)[:28],
                *errors,
                plain(paper.table1 if paper else None),
                plain(paper.figure5 if paper else None),
            )
        )
    notes = [provenance(records), *caveats(records)]
    lines += ["", *(line for note in notes for line in textwrap.wrap(note, WIDTH))]
    lines += ["", CLAIM("The paper's claims", "last step", "averaged"), RULE]
    for one, other in zip(verdicts["last_step"], verdicts["averaged"], strict=True):
        told = (each.verdict.replace("holds only", "only") for each in (one, other))
        lines.append(CLAIM(f"{one.claim.number} {one.claim.statement}", *told))
    return "\n".join(lines)
