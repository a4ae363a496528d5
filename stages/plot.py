"""All variants -> reports/table1.csv, curves.csv, README.md and figures/*.png."""

import os
import tempfile
from pathlib import Path

from stages.report import page
from stages.report.claims import judge
from stages.common.errors import exits_cleanly
from stages.report.charts import draw_all
from stages.measure.records import read_results

REPORTS = Path("reports")
FIGURES = REPORTS / "figures"


@exits_cleanly
def main() -> None:
    results = read_results()
    judgements = judge(results)
    FIGURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=REPORTS, prefix=".plot-") as temporary:
        partial = Path(temporary)
        (partial / "figures").mkdir()
        drawn = draw_all(results, partial / "figures")
        for name, table in (("table1", page.table1(results)), ("curves", page.curves(results))):
            table.to_csv(partial / f"{name}.csv", index=False, float_format="%.6g")
        (partial / "README.md").write_text(page.page(results, judgements, drawn))
        for path in partial.rglob("*.*"):
            os.replace(path, REPORTS / path.relative_to(partial))
    for path in FIGURES.glob("*.png"):
        if path.name not in drawn:
            path.unlink()
    print(page.summary(results, judgements))
    print(f"\nThe evidence: {REPORTS}/README.md; the pictures: {FIGURES}/")


if __name__ == "__main__":
    main()
