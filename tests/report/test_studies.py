"""What a study found stands beside the claim that it is about, where it is of the same faces."""

from pathlib import Path

import pytest

from stages.report import sections
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
"""


def claims(dataset: str) -> list[str]:
    """The report's sections of the claims."""
    records = make(as_in_the_paper(), dataset=dataset)
    text = readme(records, judge_all(records), [])
    return text.partition("## Recursive against stacked")[0].split("\n### ")[1:]


def test_what_was_searched_for_best_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    records = make(as_in_the_paper() | {"best": Made(), "stacked_tuned": Made()})
    beyond = "\n".join(sections.beyond(records))
    assert "training people ([how]" in beyond
    folder = tmp_path / "reports/studies/search"
    folder.mkdir(parents=True)
    (folder / "trials.csv").write_text("trial,seconds\n0,1800\n1,\n2,3600\n", encoding="utf-8")
    beyond = "\n".join(sections.beyond(records))
    assert "people, 3 trainings of few epochs and 1.5 hours of a core in all ([how]" in beyond


def test_studies_stand_beside_the_claims_that_they_are_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alone = claims("lfw")
    folder = tmp_path / "reports/studies"
    folder.mkdir(parents=True)
    (folder / "latents.csv").write_text(LATENTS, encoding="utf-8")
    (folder / "norms.csv").write_text(NORMS, encoding="utf-8")
    beside = claims("lfw")
    assert beside[:7] == alone[:7]
    assert (
        "| recursive | 2 | 60% (0.30) | - |\n| recursive VAE | 1 | 25% (2.00) | 0% (5.00) |"
        in (beside[7])
    )
    assert "| stacked, shared norm | averaged | 2 | 8500 ± 707 | 301 ± 1 |" in beside[8]
    assert claims("synthetic") == alone
