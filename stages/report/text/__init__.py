"""The report's text: templates that a person reads from top to bottom, and what fills them.

report.md.j2 is reports/README.md, own.md.j2 that of pictures of one's own, findings.md.j2 the block
of README.md, summary.txt.j2 what the terminal shows; sentences.j2, table.md.j2 and rule.md.j2
are what these and the page share.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.common.settings import IMPLEMENTATIONS, WEIGHTS
from stages.measure.measures import MEASURES
from stages.report import claims, statistics
from stages.report.catalogue import IMPLEMENTATION_LABELS, KINDS, WEIGHTS_LABELS, label
from stages.report.figures import FIGURES
from stages.report.findings import STATISTICS, Findings
from stages.report.statistics import CONFIDENCE, number
from stages.report.tables import NEAR

HERE = Path(__file__).parent
SPECIAL = re.compile(r"[\\`*\[\]|~]")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # a terminal would obey them
WIDTH = 100  # columns of the terminal's lines


def report(found: Findings, drawn: Sequence[str]) -> str:
    """reports/README.md. `drawn`: the figures there are.

    Of pictures of one's own it has nothing about the paper.
    """
    if found.provenance["own"]:
        return _render("own.md.j2", _markdown, found=found, pictures=drawn)
    figures = {name: FIGURES[name] for name in FIGURES if name in drawn}
    points = Markup(rule(found))
    return _render("report.md.j2", _markdown, found=found, figures=figures, rule=points)


def rule(found: Findings) -> str:
    """How a verdict is reached: the points of a list, in Markdown."""
    return environment(safe=False).get_template("rule.md.j2").render(found=found)


def readme_block(found: Findings) -> str:
    """What was found, for README.md."""
    return _render("findings.md.j2", _markdown, found=found)


def summary(found: Findings) -> str:
    """Table 1 and the verdicts in lines of at most WIDTH characters."""
    return _render("summary.txt.j2", _plain, found=found, width=WIDTH)


@cache
def environment(
    *folders: Path, safe: bool, finalize: Callable[[object], object] | None = None
) -> Environment:
    """Templates of these folders and of this one. safe: as of HTML, nothing is taken for markup.

    finalize: what becomes of a value before it is written.
    """
    found = Environment(
        loader=FileSystemLoader([*folders, HERE]), autoescape=safe, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=finalize,
    )  # fmt: skip
    found.filters |= {"number": number, "label": label, "percent": "{:.0%}".format}
    names: dict[str, Any] = {
        "claims": claims,
        "confidence": f"{CONFIDENCE:.0%}",
        "how_labels": IMPLEMENTATION_LABELS,
        "implementations": IMPLEMENTATIONS,
        "kinds": KINDS,
        "measures": MEASURES,
        "near": NEAR,
        "other_statistics": [f"as described, {name}" for name in STATISTICS],
        "statistics": statistics,
        "weights": WEIGHTS,
        "weights_labels": WEIGHTS_LABELS,
    }
    found.globals.update(names)
    return found


def _render(name: str, finalize: Callable[[object], object], **values: Any) -> str:
    template = environment(finalize=finalize, safe=finalize is _markdown).get_template(name)
    return re.sub(r"\n{3,}", "\n\n", template.render(**values).strip()) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, str):
        return CONTROL.sub("?", value)
    return "-" if value is None or (isinstance(value, float) and pd.isna(value)) else value


def _markdown(value: object) -> Markup:
    """Text as Markdown that shows it: no HTML, no link, no further cell of a table."""
    if isinstance(value, Markup):
        return value
    text = " ".join(str(_plain(value)).splitlines()).replace("&", "&amp;").replace("<", "&lt;")
    return Markup(SPECIAL.sub(r"\\\g<0>", text))
