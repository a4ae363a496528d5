"""All variants -> reports/: table1.csv, curves.csv, README.md, index.html and figures/*.png."""

import re
import sys
from pathlib import Path

from stages.common.entry import entry_point
from stages.common.files import atomic_folder, write_text
from stages.common.settings import configured
from stages.measure.records import read
from stages.report import studies, text
from stages.report.figures import FIGURES, OF_OWN_PICTURES, draw_all
from stages.report.findings import Findings, find
from stages.report.html.page import page
from stages.report.tables import curves_csv, table1_csv

REPORTS = Path("reports")
PICTURES = REPORTS / "figures"
README = Path("README.md")
BLOCK = re.compile(r"(?<=<!-- findings: written by plot -->\n).*(?=<!-- end of findings -->)", re.S)


@entry_point
def main() -> None:
    records = read()
    found = find(records, studies.read(records.faces))
    with atomic_folder(PICTURES) as folder:
        figures = OF_OWN_PICTURES if found.provenance["own"] else FIGURES
        drawn = draw_all(records, folder, figures)
        texts = {"README.md": text.report(found, drawn), "index.html": page(records, found)}
        for name, table in (("table1", table1_csv(found.table)), ("curves", curves_csv(records))):
            texts[f"{name}.csv"] = table.to_csv(index=False, float_format="%.6g")
    for name, content in texts.items():
        write_text(REPORTS / name, content)
    write_findings(found)
    print(text.summary(found))
    print(f"\nThe evidence: {REPORTS}/README.md; to look at: {REPORTS}/index.html, {PICTURES}/")
    if removed := of_removed_variants():
        print(f"\nOf variants that params.yaml no longer has: `rm -r {' '.join(removed)}`")


def write_findings(found: Findings) -> None:
    """Put the findings on the paper's pictures into README.md, where it has a place for them."""
    if found.provenance["dataset"] != "lfw-deepfunneled" or not README.exists():
        return
    before = README.read_text(encoding="utf-8")
    after = BLOCK.sub(lambda _: text.readme_block(found), before)
    if after != before:
        write_text(README, after)


def of_removed_variants() -> list[str]:
    """Files in reports/ of variants that configs/ no longer has."""
    present = {*configured()}
    left = [*REPORTS.glob("records/*"), *REPORTS.glob("grids/*"), *REPORTS.glob("metrics/*.json")]
    return sorted(
        str(path)
        for path in left
        if path.stem not in present and not path.name.startswith(".partial-")
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
