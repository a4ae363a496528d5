"""reports/README.md: the verdicts, the tables, the figures, and the rule behind them."""

from collections.abc import Sequence

from stages.common.settings import IMPLEMENTATIONS, WEIGHTS
from stages.measure.records import Records
from stages.report import markdown, sections
from stages.report.claims import (
    AFTERWARDS,
    RULE,
    SEEN_SEEDS,
    Finding,
    Judgement,
    Verdicts,
    answer,
    judge_all,
)
from stages.report.figures import FIGURES, Section
from stages.report.models import without_seeds
from stages.report.paper import IMPLEMENTATION_LABELS, WEIGHTS_LABELS
from stages.report.studies import Studies
from stages.report.words import caveats, provenance

NO_STUDIES = Studies()
ASKED_HEADER = ["asked", "weights", *IMPLEMENTATION_LABELS.values()]
VERDICT_HEADER = ["", "claim", *(WEIGHTS_LABELS[weights] for weights in WEIGHTS)]


def readme(
    records: Records, verdicts: Verdicts, drawn: Sequence[str], studies: Studies = NO_STUDIES
) -> str:
    """reports/README.md. `drawn`: the figures there are."""
    return markdown.document(
        [
            "# Results",
            "Written by `stages/plot.py` from what the models' evaluation measured; nothing here "
            "is typed in.",
            provenance(records),
            *(f"**{caveat}**" for caveat in caveats(records)),
            "## Which of the paper's claims hold?",
            "On the weights of the *last step*, the paper's protocol, and on *averaged* weights.",
            markdown.table(
                VERDICT_HEADER,
                [
                    [claim[0].claim.number, claim[0].claim.statement]
                    + [f"**{judgement.verdict}**" for judgement in claim]
                    for claim in _by_claim(verdicts)
                ],
            ),
            *_other_seeds(records),
            "## Table 1",
            *sections.table1(records),
            *studies.published,
            *_figures("Table 1", drawn),
            "## The nine claims",
            *(part for claim in _by_claim(verdicts) for part in _claim(claim, drawn, studies)),
            *_afterwards(records),
            "## Recursive against stacked",
            *sections.recursive_against_stacked(records),
            *sections.beyond(records, studies.searched),
            *studies.longer,
            "## Clarity",
            *sections.clarity(records),
            *_figures("Clarity", drawn),
            "## Samples",
            *_figures("Samples", drawn),
            "## Training and sensitivity",
            *_figures("Training and sensitivity", drawn),
            "## How a verdict is reached",
            RULE,
        ]
    )


def _by_claim(verdicts: Verdicts) -> list[tuple[Judgement, ...]]:
    return list(zip(*(verdicts[weights] for weights in WEIGHTS), strict=True))


def _other_seeds(records: Records) -> list[str]:
    """Every verdict on the seeds that nobody had looked at; nothing where there are none."""
    others = without_seeds(records, SEEN_SEEDS)
    if not any(model.implementation == "described" for model in others.found):
        return []
    rows = [
        [claim[0].claim.number, claim[0].claim.statement]
        + [_of_others(judgement) for judgement in claim]
        for claim in _by_claim(judge_all(others))
    ]
    seen = f"{min(SEEN_SEEDS)} to {max(SEEN_SEEDS)}"
    return [
        f"Seeds {seen} had been looked at when the rule was written. On the other seeds alone, for "
        "the models as described:",
        markdown.table(VERDICT_HEADER, rows),
    ]


def _of_others(judgement: Judgement) -> str:
    missing = all(finding.answer == "missing" for finding in judgement.described)
    return "no other seeds" if missing else judgement.described_verdict


def _figures(section: Section, drawn: Sequence[str]) -> list[str]:
    shown = [name for name in FIGURES if name in drawn and FIGURES[name].section == section]
    return [
        line
        for name in shown
        for line in (f"![{FIGURES[name].caption}](figures/{name})", f"*{FIGURES[name].caption}*")
    ]


def _claim(judgements: Sequence[Judgement], drawn: Sequence[str], studies: Studies) -> list[str]:
    claim = judgements[0].claim
    findings = [
        [one.question, WEIGHTS_LABELS[judgement.weights], _cell(one), _cell(other)]
        for judgement in judgements
        for one, other in zip(judgement.described, judgement.released, strict=True)
    ]
    order = [question.question for question in claim.questions]
    findings.sort(key=lambda row: order.index(row[0]))
    verdicts = "; ".join(
        f"{WEIGHTS_LABELS[judgement.weights]}: **{judgement.verdict}**" for judgement in judgements
    )
    look = f" See [{claim.figure}](figures/{claim.figure})." if claim.figure in drawn else ""
    return [
        f"### {claim.number}. {claim.statement}",
        verdicts[0].upper() + verdicts[1:] + ".",
        f"The paper: {claim.paper}{look}",
        markdown.table(ASKED_HEADER, findings),
        *studies.beside_claim.get(claim.number, []),
    ]


def _afterwards(records: Records) -> list[str]:
    """The questions that decide nothing, and why they are asked."""
    parts = [
        "### Asked afterwards",
        "These questions came up when the results were known, and enter no verdict.",
    ]
    for reason, questions in AFTERWARDS:
        rows = [
            [question.question, WEIGHTS_LABELS[weights]]
            + [_cell(answer(question, records, one, weights)) for one in IMPLEMENTATIONS]
            for question in questions
            for weights in WEIGHTS
        ]
        parts += [reason, markdown.table(ASKED_HEADER, rows)]
    return parts


def _cell(finding: Finding) -> str:
    return f"**{finding.answer}**: {finding.evidence}"
