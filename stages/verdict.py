"""reports/ -> a sentence: which training reconstructs held-out pictures best, by how much."""

import sys
from pathlib import Path

from stages.common.entry import entry_point
from stages.measure.records import read
from stages.report.catalogue import label, mean_of, models
from stages.report.statistics import beats_mean_picture

PAGE = Path("reports/index.html")
COMPARED = ("stacked", "recursive", "recursive_then_stacked")


@entry_point
def main() -> None:
    records = read()
    found = [
        one
        for one in models(records, "described", "averaged")
        if one.model.variant in COMPARED and not one.diverged
    ]
    errors = {label(one.model.variant): mean_of(one) for one in found}
    learned = [beats_mean_picture(one, records.references) is not False for one in found]
    if not any(learned):
        print("No training reconstructs held-out pictures better than the mean picture does.")
    else:
        (best, least), *others = sorted(errors.items(), key=lambda item: item[1].value)
        seeds = f"{least.n} seed{'s' if least.n > 1 else ''}"
        rest = (f"{name} {e.value:.0f}, {e.value / least.value:.2f} times" for name, e in others)
        print(
            f"{best.capitalize()} training reconstructs held-out pictures best: error "
            f"{least.value:.0f} ({'; '.join(rest)} as much; {seeds}, averaged weights)."
        )
    print(f"The page: {PAGE.absolute()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
