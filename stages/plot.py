"""All variants -> reports/: table1.csv, curves.csv, README.md, index.html and figures/*.png."""

import sys
from pathlib import Path

from stages.common.entry import entry_point
from stages.common.files import atomic_folder, write_text
from stages.common.settings import VARIANTS
from stages.measure.records import read
from stages.report import studies
from stages.report.figures import draw_all
from stages.report.html.page import page
from stages.report.readme import readme
from stages.report.rule import judge_all
from stages.report.tables import curves, table1
from stages.report.terminal import summary

REPORTS = Path("reports")
FIGURES = REPORTS / "figures"


@entry_point
def main() -> None:
    records = read()
    verdicts, told = judge_all(records), studies.read(records.faces)
    with atomic_folder(FIGURES) as folder:
        drawn = draw_all(records, folder)
        texts = {"README.md": readme(records, verdicts, drawn, told)}
        for name, table in (("table1", table1(records)), ("curves", curves(records))):
            texts[f"{name}.csv"] = table.to_csv(index=False, float_format="%.6g")
        texts["index.html"] = page(records, verdicts)
    for name, text in texts.items():
        write_text(REPORTS / name, text)
    print(summary(records, verdicts))
    print(f"\nThe evidence: {REPORTS}/README.md; to look at: {REPORTS}/index.html, {FIGURES}/")
    if removed := of_removed_variants():
        print(f"\nOf variants that params.yaml no longer has: `rm -r {' '.join(removed)}`")


def of_removed_variants() -> list[str]:
    """What evaluation once left of variants that are in configs/ no more."""
    present = {path.stem for path in VARIANTS.glob("*.yaml")}
    left = [*REPORTS.glob("records/*"), *REPORTS.glob("grids/*"), *REPORTS.glob("metrics/*.json")]
    return sorted(
        str(path)
        for path in left
        if path.stem not in present and not path.name.startswith(".partial-")
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
