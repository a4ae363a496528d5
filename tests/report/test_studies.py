"""What a study found stands beside the claim that it is about, where it is of the same faces."""

import re
from pathlib import Path

import pytest

from stages.common.errors import PipelineError
from stages.report import studies
from stages.report.findings import find
from stages.report.text import readme_block, report
from tests.made_records import Made, as_in_the_paper, make

FACES, OTHERS = "0123456789012345", "1234567890123456"
LATENTS = """faces,variant,seed,density,faces_found,high_frequency_ratio,copies
012345678901,,0,held-out faces,0.99,1,
012345678901,recursive,0,Gaussian,0.5,0.25,0
012345678901,recursive,1,Gaussian,0.7,0.35,0
012345678901,recursive_vae,0,Gaussian,0.25,2,0.01
012345678901,recursive_vae,0,standard normal,0,5,0
"""
NORMS = """faces,variant,seed,weights,running,of_batch,population
012345678901,stacked_shared_bn,0,averaged,8000,300,250
012345678901,stacked_shared_bn,1,averaged,9000,302
012345678901,stacked_shared_bn,0,last_step,7000,303,290
"""
PUBLISHED = """faces,variant,difference,epoch,error
012345678901,stacked_bn,as released,10,719.2
012345678901,stacked_bn,as released,20,600
012345678901,stacked_bn,encoder not frozen,9,1
012345678901,stacked_bn,encoder not frozen,10,280
012345678901,recursive_bn,as released,10,2300
"""
LONGER = """faces,variant,seed,epoch,measure,value,processor
012345678901,stacked,0,1,averaged_error,900,x
012345678901,stacked,0,10,averaged_error,230,x
012345678901,stacked,1,10,averaged_error,250,x
012345678901,stacked,0,40,averaged_error,150,x
012345678901,stacked,0,10,high_frequency_ratio,0.1,x
012345678901,stacked,0,40,high_frequency_ratio,0.1,x
012345678901,mine,0,10,averaged_error,200,x
012345678901,mine,0,40,averaged_error,inf,x
012345678901,recursive,0,10,averaged_error,inf,x
012345678901,recursive,0,40,averaged_error,inf,x
"""


def told(folder: Path, faces: str = FACES) -> str:
    """The report, with the studies in a folder."""
    records = make(as_in_the_paper() | {"mine": Made()})
    return report(find(records, studies.read(faces, folder)), [])


def section(name: str, *where: str | Path) -> str:
    return told(*where).partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def claims(*where: str | Path) -> list[str]:
    """The report's sections of the claims."""
    return told(*where).partition("## Recursive against stacked")[0].split("\n### ")[1:]


def test_studies_stand_beside_the_claims_that_they_are_about(tmp_path: Path) -> None:
    alone = claims(tmp_path)
    (tmp_path / "latents.csv").write_text(LATENTS, encoding="utf-8")
    (tmp_path / "norms.csv").write_text(NORMS, encoding="utf-8")
    beside = claims(tmp_path)
    assert beside[:7] == alone[:7]
    faces = "| recursive | 2 | 60% (0.30) | - |\n| recursive VAE | 1 | 25% (2.00) | 0% (5.00) |"
    assert faces in beside[7]
    averaged = "| stacked, shared norm | averaged | 2 | 8500 ± 707 | 301 ± 1 | 250 (n = 1) |"
    assert averaged in beside[8]
    assert "| stacked, shared norm | last step | 1 | 7000 | 303 | 290 |" in beside[8]
    assert "error 8000, with population statistics 250." in told(tmp_path)
    assert claims(tmp_path, OTHERS) == alone


def test_what_moves_published_numbers_stands_beside_table_1(tmp_path: Path) -> None:
    (tmp_path / "published.csv").write_text(PUBLISHED, encoding="utf-8")
    text = section("Table 1", tmp_path)
    assert "| model | as released | encoder not frozen | 20 epochs | paper |" in text
    assert "| stacked, batch norm | 719 | 280 | 600 | 467 (Table 1), 373 (Figure 5) |" in text
    assert "| recursive, batch norm | 2300 | - | - | 7831 (Table 1), 8336 (Figure 5) |" in text
    assert "A study" not in section("Table 1", tmp_path, OTHERS)


@pytest.mark.parametrize(("epochs", "ends"), [(5, [5, 20]), (20, [10, 20]), (30, [10, 20])])
def test_published_numbers_are_told_whatever_the_epochs(
    tmp_path: Path, epochs: int, ends: list[int]
) -> None:
    """train.epochs is that of all differences, but trainings as released have at least 20."""
    trained = {"as released": 20, "another order": epochs, "half precision": epochs, "diverged": 2}
    rows = [
        f"012345678901,stacked_bn,{name},{epoch},{1000 * index + epoch}"
        for index, (name, last) in enumerate(trained.items(), 1)
        for epoch in range(1, last + 1)
    ]

    def published(rows: list[str]) -> studies.Study:
        text = "\n".join([PUBLISHED.splitlines()[0], *rows])
        (tmp_path / "published.csv").write_text(text, encoding="utf-8")
        found = studies.read(FACES, tmp_path).published
        assert found
        return found

    end, last = ends
    found = published(rows)
    assert found["epochs"] == end and found["differences"] == [*trained, "20 epochs"]
    numbers = found["rows"][0][1:-1]
    assert numbers[:3] == [1000 + end, 2000 + end, 3000 + end] and numbers[4] == 1000 + last
    assert numbers[3] != numbers[3], "nan"
    found = published(rows[:20])
    assert found["differences"] == ["as released", "20 epochs"]
    assert found["rows"][0][1:3] == [1010, 1020]


def test_longer_trainings_are_told_at_the_epochs_of_their_clarity(tmp_path: Path) -> None:
    (tmp_path / "longer.csv").write_text(LONGER, encoding="utf-8")
    told = section("Beyond the paper", tmp_path)
    assert "| model | 10 epochs | 40 epochs | n |" in told
    assert "| stacked | 240 ± 14 | 150 | 2 |" in told
    assert "| mine | 200 | diverged | 1 |\n| recursive | diverged | diverged | 1 |" in told
    values = {"stacked": (150, 160), "recursive": (300, 320), "stacked_cosine": (300, 160)}
    rows = [
        f"012345678901,{name},{seed},40,averaged_error,{value},x"
        for name, errors in (values | {"recursive_cosine": (150, 80)}).items()
        for seed, value in enumerate(errors)
    ]
    rows = [LONGER.splitlines()[0], *rows, "012345678901,stacked,0,40,high_frequency_ratio,1,x"]
    for name, value in (("recursive_cosine", 0.08), ("stacked_cosine", 0.03)):
        rows += [f"012345678901,{name},{seed},40,detail_explained,{value},x" for seed in (0, 1)]
    (tmp_path / "longer.csv").write_text("\n".join(rows), encoding="utf-8")
    longer = studies.read(FACES, tmp_path).longer
    assert longer and longer["ratios"]["constant"] == pytest.approx((2, 2, 2, 2))
    assert longer["ratios"]["cosine"] == pytest.approx((0.5, 0.5, 0.5, 2))
    found = find(make(as_in_the_paper()), studies.read(FACES, tmp_path))
    block = " ".join(readme_block(found).split())
    _, constant, cosine = re.split("- With (?=the paper's learning|a rate)", block)
    assert "it is higher after 40 epochs: 2 times (2 to 2, 2 seeds)" in constant
    assert "greedy" not in block
    assert "In short: recursive training is ahead after" not in block, "the cosine has another end"
    greedy = [
        f"012345678901,greedy_cosine,{seed},20,averaged_error,{2 + seed},x" for seed in (0, 1)
    ]
    greedy += [row.replace("greedy", "recursive") for row in greedy]
    (tmp_path / "longer.csv").write_text("\n".join([*rows, *greedy]), encoding="utf-8")
    again = readme_block(find(make(as_in_the_paper()), studies.read(FACES, tmp_path)))
    told = "is not clearly different after 20 epochs with a falling rate: 1 times (1 to 1, 2 seeds)"
    assert told in " ".join(again.split())
    detail = "explain 8% of the detail that is smaller than 8 pixels, stacked pictures 3%"
    assert detail in cosine and "it is lower after 40 epochs" in cosine


def test_decoders_on_encoders_that_stand_still_are_told(tmp_path: Path) -> None:
    lines = ["faces,variant,seed,own,fresh,gone_on", "012345678901,mine,0,150,120,110"]
    lines += ["012345678901,mine,1,170,140,inf", "012345678901,random,0,,900,"]
    (tmp_path / "frozen.csv").write_text("\n".join(lines), encoding="utf-8")
    text = section("Beyond the paper", tmp_path)
    assert "| mine | 160 ± 14 | 130 ± 14 | 110 but for 1 that diverged | 2 |" in text
    assert "| random | - | 900 | - | 1 |" in text


def test_noise_is_told(tmp_path: Path) -> None:
    lines = ["faces,variant,error", "012345678901,0,239.6", "012345678901,0.1,1261.57"]
    (tmp_path / "noise.csv").write_text("\n".join(lines), encoding="utf-8")
    text = section("Beyond the paper", tmp_path)
    assert re.search(r"\| noise \| 0(\.0)? \| 0\.1 \|\n.*\n\| error \| 240 \| 1262 \|", text)


def test_clearer_is_asked_of_detail_too(tmp_path: Path) -> None:
    rows = [
        f"012345678901,{name},{seed},10,{measure},{value + seed / 1000},x"
        for name, value in (("stacked_constant", 0.01), ("recursive_constant", 0.05))
        for seed in (0, 1)
        for measure in ("detail_explained", "last_step_detail_explained")
    ]
    rows[-1] = rows[-1].replace("0.051", "-0.04")
    (tmp_path / "longer.csv").write_text("\n".join([LONGER.splitlines()[0], *rows]), "utf-8")
    first, *others = claims(tmp_path)
    assert "| 10 epochs | averaged | +0.040 (+0.040 to +0.040) | 2 | **yes** |" in first
    assert re.search(r"\| 10 epochs \| last step \| .* \| 2 \| \*\*unclear\*\* \|", first)
    assert not any("asks for more detail" in other for other in others)


def test_what_the_last_level_loses_is_told_as_the_reason(tmp_path: Path) -> None:
    lines = ["faces,variant,epochs,seed,level,alone,behind,error,dimensions"]
    for name, first, last, error in (("constant", 15, 0.11, 180), ("cosine", 20, 0.06, 150)):
        for seed in (0, 1):
            start = f"012345678901,recursive_{name},40,{seed}"
            lines.append(f"{start},1,0.01,0.07,{first + seed},1.5")
            lines.append(f"{start},2,{last},{last},{error},9")
    (tmp_path / "levels.csv").write_text("\n".join(lines), encoding="utf-8")
    rows = [
        "faces,variant,seed,own,fresh,gone_on",
        *(f"012345678901,recursive_cosine,{k},150,190,12{k}" for k in (0, 1)),
    ]
    (tmp_path / "frozen.csv").write_text("\n".join(rows), encoding="utf-8")
    text = section("Beyond the paper", tmp_path)
    assert "| recursive_constant | 40 | 15.5 | 11.0% | 1.5 | 180 | 2 |" in text
    assert "through level 1 alone | 0.76 (" in text and "through levels 1 to 2 | 1.20 (" in text
    assert re.search(r"after ten more epochs end to end \| 1\.24 \(.*\) \| 2 \|", text)
    block = " ".join(
        readme_block(find(make(as_in_the_paper()), studies.read(FACES, tmp_path))).split()
    )
    told = "0.756 times the error of the falling rate through the first level alone, and 1.2 times"
    assert f"After 40 epochs the constant rate has {told}" in block
    assert "the last level loses 11% of its input's variance, not 6%" in block
    alone = "\n".join(line for line in lines if "cosine" not in line)
    (tmp_path / "levels.csv").write_text(alone, encoding="utf-8")
    assert "What costs how much" not in section("Beyond the paper", tmp_path)


def test_local_trainings_are_held_against_the_goal_in_its_seconds(tmp_path: Path) -> None:
    values = {("stacked_tuned", 40): 130, ("recursive", 40): 150, ("reach_3_cosine", 20): 120}
    rows = [f"012345678901,{n},0,{e},averaged_error,{v},x" for (n, e), v in values.items()]
    (tmp_path / "longer.csv").write_text("\n".join([LONGER.splitlines()[0], *rows]), "utf-8")
    assert not studies.read(FACES, tmp_path).goal
    for seconds, name in (("3", "`recursive` after 40"), ("2", "`reach_3_cosine` after 20")):
        pace = [
            "variant,epoch_seconds",
            "stacked_tuned,1",
            "recursive,1",
            f"reach_3_cosine,{seconds}",
        ]
        (tmp_path / "pace.csv").write_text("\n".join(pace), encoding="utf-8")
        text = section("Beyond the paper", tmp_path)
        assert "40 epochs of `stacked_tuned` take, its mean error is 130." in text and name in text


def test_reaches_on_smaller_pictures_are_told_beside_the_depth_of_both_sizes(
    tmp_path: Path,
) -> None:
    depth = [
        f"{size},{faces},averaged,{levels},{training},0,100"
        for size, faces, levels in ((128, FACES[:12], 7), (64, OTHERS[:12], 6))
        for training in ("recursive", "stacked")
    ]
    depth.insert(0, "size,faces,weights,levels,training,seed,error")
    columns = "faces,variant,seed,epoch,measure,value,epoch_seconds,processor"
    rows = [
        f"{OTHERS[:12]},{name},{seed},{epoch},{measure},{value * (1 + seed * factor)},{cost},x"
        for name, factor, cost in (("stacked", 1, 2), ("reach 1", 1, 2), ("reach 2", 1.1, 4))
        for seed in (0, 1)
        for epoch in (10, 20)
        for measure, value in (("averaged_error", epoch * cost), ("detail_explained", 0.04))
    ]
    (tmp_path / "reach.csv").write_text("\n".join([columns, *rows]), "utf-8")
    assert not studies.read(FACES, tmp_path).reach, "of other faces"
    (tmp_path / "depth.csv").write_text("\n".join(depth), "utf-8")
    text = section("Beyond the paper", tmp_path)
    assert "for 20 epochs, at a falling rate, on pictures of 64 pixels." in text
    assert "| reach 1 | 60 ± 28 | 0.06 | - | 1.00 (1.00 to 1.00) | 2.0 | 2 |" in text
    assert "| reach 2 | 124 ± 62 | 0.06 | 2.05 (1.50 to 2.79) | 2.05 (1.50 to 2.79) | 4.0" in text
    (tmp_path / "reach.csv").write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(PipelineError, match=r"reach\.csv cannot be read"):
        studies.read(FACES, tmp_path)


NAMES = ("latents", "norms", "published", "longer", "frozen", "noise", "levels", "depth", "pace")
TABLES = [f"{name}.csv" for name in NAMES]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("content", ["", "a,b\n1,2\n"])
def test_a_damaged_table_of_a_study_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match=f"{name} cannot be read"):
        studies.read(FACES, tmp_path)
