"""What a study found stands beside the claim that it is about, where it is of the same faces."""

import re
from dataclasses import fields
from itertools import chain
from pathlib import Path

import pytest

from stages.common.errors import PipelineError
from stages.report import studies
from stages.report.findings import find
from stages.report.text import readme_block, report
from tests.made_records import Made, as_in_the_paper, make

FACES, OTHERS = "0123456789012345", "1234567890123456"
LATENTS = (
    "variant,seed,density,faces_found,high_frequency_ratio,copies",
    ",0,held-out faces,0.99,1,",
    "recursive,0,Gaussian,0.5,0.25,0",
    "recursive,1,Gaussian,0.7,0.35,0",
    "recursive_vae,0,Gaussian,0.25,2,0.01",
    "recursive_vae,0,standard normal,0,5,0",
)
NORMS = (
    "variant,seed,weights,running,of_batch,population",
    "stacked_shared_bn,0,averaged,8000,300,250",
    "stacked_shared_bn,1,averaged,9000,302",
    "stacked_shared_bn,0,last_step,7000,303,290",
)
PUBLISHED = (
    "variant,difference,epoch,error",
    "stacked_bn,as released,10,719.2",
    "stacked_bn,as released,20,600",
    "stacked_bn,encoder not frozen,9,1",
    "stacked_bn,encoder not frozen,10,280",
    "recursive_bn,as released,10,2300",
)
LONGER = "variant,seed,epoch,measure,value,processor"
FROZEN = "variant,seed,own,fresh,gone_on"
ERROR, CLARITY, DETAIL = "averaged_error", "high_frequency_ratio", "detail_explained"


def put(folder: Path, name: str, header: str, *rows: str) -> None:
    """Write a study's table, of FACES."""
    lines = [f"faces,{header}", *(f"{FACES[:12]},{row}" for row in rows)]
    (folder / f"{name}.csv").write_text("\n".join(lines), encoding="utf-8")


def trained(name: str, epoch: int, measure: str, *values: float) -> list[str]:
    """Rows of longer.csv, a value a seed."""
    return [f"{name},{seed},{epoch},{measure},{value},x" for seed, value in enumerate(values)]


def told(folder: Path, faces: str = FACES) -> str:
    """The report, with the studies in a folder."""
    records = make(as_in_the_paper() | {"mine": Made()})
    return report(find(records, studies.read(faces, folder)), [])


def section(name: str, *where: str | Path) -> str:
    return told(*where).partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def claims(*where: str | Path) -> list[str]:
    """The report's sections of the claims."""
    return told(*where).partition("## Recursive against stacked")[0].split("\n### ")[1:]


def in_short(folder: Path) -> str:
    """What README.md says, with the studies in a folder."""
    found = find(make(as_in_the_paper()), studies.read(FACES, folder))
    return " ".join(readme_block(found).split())


def test_studies_stand_beside_the_claims_that_they_are_about(tmp_path: Path) -> None:
    alone = claims(tmp_path)
    put(tmp_path, "latents", *LATENTS)
    put(tmp_path, "norms", *NORMS)
    beside = claims(tmp_path)
    assert beside[:7] == alone[:7]
    faces = "| recursive | 2 | 60% (0.30) | - |\n| recursive VAE | 1 | 25% (2.00) | 0% (5.00) |"
    assert faces in beside[7]
    averaged = "| stacked, shared norm | averaged | 2 | 8500 ± 707 | 301 ± 1 | 250 (n = 1) |"
    assert averaged in beside[8]
    assert "| stacked, shared norm | last step | 1 | 7000 | 303 | 290 |" in beside[8]
    assert "error 8000, with population statistics 250 (n = 1). Claim 9 hangs on" in told(tmp_path)
    assert claims(tmp_path, OTHERS) == alone


def test_what_moves_published_numbers_stands_beside_table_1(tmp_path: Path) -> None:
    put(tmp_path, "published", *PUBLISHED)
    text = section("Table 1", tmp_path)
    assert "| model | as released | encoder not frozen | 20 epochs | paper |" in text
    assert "| stacked, batch norm | 719 | 280 | 600 | 467 (Table 1), 373 (Figure 5) |" in text
    assert "| recursive, batch norm | 2300 | - | - | 7831 (Table 1), 8336 (Figure 5) |" in text
    assert "A study" not in section("Table 1", tmp_path, OTHERS)


@pytest.mark.parametrize(("epochs", "end"), [(5, 5), (20, 10), (30, 10)])
def test_published_numbers_are_told_whatever_the_epochs(
    tmp_path: Path, epochs: int, end: int
) -> None:
    """train.epochs is that of all differences, but trainings as released have at least 20."""
    trained = {"as released": 20, "another order": epochs, "half precision": epochs, "diverged": 2}
    rows = [
        f"stacked_bn,{name},{epoch},{1000 * index + epoch}"
        for index, (name, last) in enumerate(trained.items(), 1)
        for epoch in range(1, last + 1)
    ]

    def published(*rows: str) -> studies.Study:
        put(tmp_path, "published", PUBLISHED[0], *rows)
        found = studies.read(FACES, tmp_path).published
        assert found
        return found

    found = published(*rows)
    assert found["epochs"] == end and found["differences"] == [*trained, "20 epochs"]
    numbers = found["rows"][0][1:-1]
    nan = pytest.approx(float("nan"), nan_ok=True)
    assert numbers == [1000 + end, 2000 + end, 3000 + end, nan, 1020]
    found = published(*rows[:20])
    assert found["differences"] == ["as released", "20 epochs"]
    assert found["rows"][0][1:3] == [1010, 1020]


def test_longer_trainings_are_told_at_the_epochs_of_their_clarity(tmp_path: Path) -> None:
    rows = [*trained("stacked", 1, ERROR, 900), *trained("stacked", 10, ERROR, 230, 250)]
    rows += trained("stacked", 40, ERROR, 150)
    for epoch, error in ((10, 200), (40, float("inf"))):
        rows += trained("stacked", epoch, CLARITY, 0.1)
        rows += trained("mine", epoch, ERROR, error)
        rows += trained("recursive", epoch, ERROR, float("inf"))
    put(tmp_path, "longer", LONGER, *rows)
    told = section("Beyond the paper", tmp_path)
    assert "| model | 10 epochs | 40 epochs | n |" in told
    assert "| stacked | 240 ± 14 | 150 (n = 1) | 2 |" in told
    assert "| mine | 200 | diverged | 1 |\n| recursive | diverged | diverged | 1 |" in told


def test_longer_trainings_are_compared_at_each_rate(tmp_path: Path) -> None:
    rows = trained("stacked", 40, CLARITY, 1)
    rows += trained("stacked", 40, ERROR, 150, 160) + trained("recursive", 40, ERROR, 300, 320)
    for name, errors, detail in (("stacked", (300, 320), 0.03), ("recursive", (150, 160), 0.08)):
        rows += trained(f"{name}_cosine", 40, ERROR, *errors)
        rows += trained(f"{name}_cosine", 40, DETAIL, detail, detail)
    put(tmp_path, "longer", LONGER, *rows)
    longer = studies.read(FACES, tmp_path).longer
    assert longer and longer["constant"]["error"] == pytest.approx((2, 2, 2, 2))
    assert longer["cosine"]["error"] == pytest.approx((0.5, 0.5, 0.5, 2))
    block = in_short(tmp_path)
    assert "| at the paper's learning rate | 40 | 2 (2 to 2) | 2 |" in block
    assert "| at a rate that falls to zero, bad for stacked | 40 | 0.5 (0.5 to 0.5) | 2 |" in block
    assert "recursive pictures explain 8% after 40 epochs, stacked pictures 3%." in block
    assert "after 40 the higher one. After 40, with the better learning rate for each" in block
    assert "greedy" not in block
    # The same training on further seeds, for longer.
    rows += [
        f"stacked_constant,{seed},{epoch},{ERROR},{error},x"
        for seed in (10, 11)
        for epoch, error in ((40, 150), (80, 120))
    ]
    rows += [f"recursive_constant,{seed},40,{ERROR},300,x" for seed in (10, 11)]
    rows += [f"recursive_cosine,{seed},80,{ERROR},240,x" for seed in (10, 11)]
    put(tmp_path, "longer", LONGER, *rows)
    block = in_short(tmp_path)
    assert "| at the paper's learning rate | 40 | 2 (2 to 2) | 4 |" in block
    assert "each (falling, constant) | 80 | 2 (2 to 2) | 2 |" in block
    assert "with the better learning rate for each, it still has the higher one." in block
    assert "| stacked | 152 ± 5 | 4 |" in section("Beyond the paper", tmp_path)
    for name in ("greedy_cosine", "recursive_cosine"):
        rows += trained(name, 20, ERROR, 2, 3)
    put(tmp_path, "longer", LONGER, *rows)
    put(tmp_path, "noise", "variant,error", "0.0,240", "0.1,262")
    told = "the same falling rate recursive training has 1 times (1 to 1, 2 seeds) its error."
    assert told in section("Beyond the paper", tmp_path)


def test_decoders_on_encoders_that_stand_still_are_told(tmp_path: Path) -> None:
    rows = ("mine,0,150,120,110", "mine,1,170,140,inf", "random,0,,900,")
    put(tmp_path, "frozen", FROZEN, *rows)
    text = section("Beyond the paper", tmp_path)
    assert "| mine | 160 ± 14 | 130 ± 14 | 110 but for 1 that diverged | 2 |" in text
    assert "| random | - | 900 | - | 1 |" in text


def test_noise_is_told(tmp_path: Path) -> None:
    put(tmp_path, "noise", "variant,error", "0,239.6", "0.1,1261.57")
    text = section("Beyond the paper", tmp_path)
    assert re.search(r"\| noise \| 0(\.0)? \| 0\.1 \|\n.*\n\| error \| 240 \| 1262 \|", text)


def test_clearer_is_asked_of_detail_too(tmp_path: Path) -> None:
    rows = trained("recursive_constant", 10, DETAIL, 0.05, 0.051)
    rows += trained("recursive_constant", 10, f"last_step_{DETAIL}", 0.05, -0.04)
    for measure in (DETAIL, f"last_step_{DETAIL}"):
        rows += trained("stacked_constant", 10, measure, 0.01, 0.011)
    put(tmp_path, "longer", LONGER, *rows)
    first, *others = claims(tmp_path)
    assert "| 10 epochs | averaged | +0.040 (+0.040 to +0.040) | 2 | **yes** |" in first
    assert re.search(r"\| 10 epochs \| last step \| .* \| 2 \| \*\*unclear\*\* \|", first)
    assert not any("High frequencies may be grain" in other for other in others)


def test_what_the_last_level_loses_is_told_as_the_reason(tmp_path: Path) -> None:
    header = "variant,epochs,seed,level,alone,behind,error,dimensions"
    rates: dict[str, list[str]] = {"constant": [], "cosine": []}
    for name, epochs, first, last, error in (
        ("constant", 10, 28, 0.05, 182),
        ("constant", 40, 15, 0.11, 180),
        ("cosine", 40, 20, 0.06, 150),
    ):
        rates[name] += [
            f"recursive_{name},{epochs},{seed},{level}"
            for seed in (0, 1)
            for level in (f"1,0.01,0.07,{first + seed},1.5", f"2,{last},{last},{error},9")
        ]
    put(tmp_path, "levels", header, *rates["constant"], *rates["cosine"])
    put(tmp_path, "frozen", FROZEN, *(f"recursive_cosine,{k},150,190,12{k}" for k in (0, 1)))
    text = section("Beyond the paper", tmp_path)
    assert "| recursive_constant | 40 | 15.5 | 11.0% | 1.5 | 180 | 2 |" in text
    assert "through level 1 alone | 0.76 (" in text and "through levels 1 to 2 | 1.20 (" in text
    assert re.search(r"after ten more epochs end to end \| 1\.24 \(.*\) \| 2 \|", text)
    told = "the first level alone falls from 28.5 to 15.5; what the last level loses of its"
    assert f"{told} input rises from 5.0% to 11.0%." in in_short(tmp_path)
    cosine = [trained("recursive_cosine", n, ERROR, e, e) for n, e in ((40, 146), (80, 168))]
    stacked = [
        trained(name, n, ERROR, 1, 2) for name, n in (("stacked_cosine", 40), ("stacked", 80))
    ]
    put(tmp_path, "longer", LONGER, *chain(*cosine, *stacked))
    told = "A falling rate only delays this: its error is 146 after 40 epochs, 168 after 80."
    assert told in in_short(tmp_path)
    put(tmp_path, "levels", header, *rates["constant"])
    assert "What costs how much" not in section("Beyond the paper", tmp_path)


def test_local_trainings_are_held_against_the_goal_in_its_seconds(tmp_path: Path) -> None:
    values = {("stacked_tuned", 40): 130, ("recursive", 40): 150, ("reach_3_cosine", 20): 120}
    rows = [row for key, value in values.items() for row in trained(*key, ERROR, value)]
    put(tmp_path, "longer", LONGER, *rows, *trained("stacked_tuned", 40, CLARITY, 1))
    assert not studies.read(FACES, tmp_path).goal
    for seconds, name in (("3", "recursive | 40 | 150"), ("2", "reach_3_cosine | 20 | 120")):
        pace = f"variant,epoch_seconds\nstacked_tuned,1\nrecursive,1\nreach_3_cosine,{seconds}\n"
        (tmp_path / "pace.csv").write_text(pace, encoding="utf-8")
        text = section("Beyond the paper", tmp_path)
        assert f"| 40 | 130 | {name} |" in text


# Training, and its seconds, on which its error and the detail depend.
MADE_REACHES = {"stacked": 2, "reach 1": 2, "reach 2": 4, "reach 3": 6, "reach 4": 9}
MADE_REACHES |= {"stacked_searched": 2, "by_levels_searched": 10}


def made_error(name: str, seed: int, epoch: int) -> float:
    later = 1.5 if (name, epoch) == ("reach 1", 80) else 1
    return later * epoch * MADE_REACHES[name] * (1 + seed * (1.1 if name == "reach 3" else 1))


def test_reaches_on_smaller_pictures_are_told_beside_the_depth_of_both_sizes(
    tmp_path: Path,
) -> None:
    depth = [
        f"{size},{faces},averaged,{levels},{training},0,25"
        for size, faces, levels in (
            (128, FACES[:12], 5),
            (128, FACES[:12], 7),
            (64, OTHERS[:12], 6),
        )
        for training in ("recursive", "stacked")
    ]
    depth.insert(0, "size,faces,weights,levels,training,seed,error")
    columns = "faces,variant,seed,epoch,measure,value,epoch_seconds,processor"
    rows = [
        f"{OTHERS[:12]},{name},{seed},{epoch},{measure},{value},{cost},x"
        for name, cost in MADE_REACHES.items()
        for seed in (0, 1)
        for epoch in (10, 20, 80)
        if epoch < 80 or name in ("stacked", "reach 1", "reach 3")
        for measure, value in (
            ("averaged_error", made_error(name, seed, epoch)),
            ("detail_explained", cost / 100),
        )
    ]
    (tmp_path / "reach.csv").write_text("\n".join([columns, *rows]), "utf-8")
    assert not studies.read(FACES, tmp_path).reach, "of other faces"
    (tmp_path / "depth.csv").write_text("\n".join(depth), "utf-8")
    text = section("Beyond the paper", tmp_path)
    assert "after ten epochs its error is 30, at a constant rate 25 (other seeds)" in text
    assert "for 20 epochs and less, some for up to 80, at a falling rate, on pictures" in text
    block = in_short(tmp_path)
    for what in ("with 5 levels", "64 pixels, 6 levels"):
        assert f"| {what} | 2 | 1 (" in block
    assert "have 3.07 times (2.25 to 4.19, 2 seeds) the error of recursive training and" in block
    assert "explain 6% of the detail, not 2%, in about 3 times the seconds." in block
    assert "| 64 pixels, at a rate that falls to zero | 80 | 1.5 (1.5 to 1.5) | 2 |" in block
    assert "losses through up to 3 levels | 80 | 3.07 (2.25 to 4.19) | 2 |" in block
    assert "the best of each that a search found | 20 | 5 (5 to 5) | 2 |" in block
    told = "explains 10% of the detail, the best stacked one 2%, in about 5 times the seconds."
    assert told in text and "After the paper's ten epochs" not in block
    longer = trained("stacked", 40, CLARITY, 1) + trained("stacked", 40, ERROR, 150, 160)
    longer += trained("recursive", 40, ERROR, 300, 320)
    longer += trained("stacked_cosine", 40, ERROR, 150, 160)
    longer += trained("recursive_cosine", 40, ERROR, 140, 170)
    put(tmp_path, "longer", LONGER, *longer)
    told = "the paper's ten epochs recursive training has the lower error, after 40 the higher one."
    later = "no clear difference is left. On 64 pixels it has the higher one after 80."
    assert f"{told} After 40, with the better learning rate for each, {later}" in in_short(tmp_path)
    (tmp_path / "reach.csv").write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(PipelineError, match=r"reach\.csv cannot be read"):
        studies.read(FACES, tmp_path)


# That of reach is read beside that of depth, see above.
NAMES = [field.name for field in fields(studies.Studies) if field.name != "reach"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", ["", "a,b\n1,2\n"])
def test_a_damaged_table_of_a_study_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / f"{name}.csv").write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match=f"{name}.csv cannot be read"):
        studies.read(FACES, tmp_path)
