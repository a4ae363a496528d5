"""What a study found stands beside the claim that it is about, where it is of the same faces."""

from pathlib import Path

import pytest

from stages.common.errors import PipelineError
from stages.report import studies
from stages.report.readme import readme
from stages.report.rule import judge_all
from tests.made_records import Made, as_in_the_paper, make

LATENTS = """dataset,variant,seed,density,faces_found,high_frequency_ratio,copies
lfw,,0,held-out faces,0.99,1,
lfw,recursive,0,Gaussian,0.5,0.25,0
lfw,recursive,1,Gaussian,0.7,0.35,0
lfw,recursive_vae,0,Gaussian,0.25,2,0.01
lfw,recursive_vae,0,standard normal,0,5,0
"""
NORMS = """dataset,variant,seed,weights,running,of_batch
lfw,stacked_shared_bn,0,averaged,8000,300
lfw,stacked_shared_bn,1,averaged,9000,302
lfw,stacked_shared_bn,0,last_step,7000,303
"""


def claims(dataset: str, folder: Path) -> list[str]:
    """The report's sections of the claims."""
    records = make(as_in_the_paper(), dataset=dataset)
    text = readme(records, judge_all(records), [], studies.read(dataset, folder))
    return text.partition("## Recursive against stacked")[0].split("\n### ")[1:]


def test_what_was_searched_for_best_is_told(tmp_path: Path) -> None:
    records = make(as_in_the_paper() | {"best": Made(), "stacked_tuned": Made()})
    text = readme(records, judge_all(records), [], studies.read("lfw", tmp_path))
    assert "training people ([how]" in text and "`recursive_then_stacked`" not in text
    (tmp_path / "search").mkdir()
    trials = tmp_path / "search/trials.csv"
    trials.write_text("trial,seconds\n0,1800\n1,\n2,3600\n", encoding="utf-8")
    text = readme(records, judge_all(records), [], studies.read("lfw", tmp_path))
    assert "people, 3 trainings of few epochs and 1.5 hours of a core in all ([how]" in text


def test_studies_stand_beside_the_claims_that_they_are_about(tmp_path: Path) -> None:
    alone = claims("lfw", tmp_path)
    (tmp_path / "latents.csv").write_text(LATENTS, encoding="utf-8")
    (tmp_path / "norms.csv").write_text(NORMS, encoding="utf-8")
    beside = claims("lfw", tmp_path)
    assert beside[:7] == alone[:7]
    faces = "| recursive | 2 | 60% (0.30) | - |\n| recursive VAE | 1 | 25% (2.00) | 0% (5.00) |"
    assert faces in beside[7]
    assert "| stacked, shared norm | averaged | 2 | 8500 ± 707 | 301 ± 1 |" in beside[8]
    assert "| stacked, shared norm | last step | 1 | 7000 | 303 |" in beside[8]
    assert claims("synthetic", tmp_path) == alone


@pytest.mark.parametrize("name", ["latents.csv", "norms.csv", "search/trials.csv"])
@pytest.mark.parametrize("content", ["", "a,b\n1,2\n"])
def test_a_damaged_table_of_a_study_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match=f"{name} cannot be read"):
        studies.read("lfw", tmp_path)
