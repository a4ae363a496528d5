"""The verdicts follow the numbers: they flip when these do, and admit what is not known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.measure.records import Results, read_results
from stages.report import comparisons
from stages.report.claims import CLAIMS, judge
from stages.report.comparisons import Effect, compare_each_image, compare_errors, compare_measures
from tests.made_records import IMAGES, Made, around, as_in_the_paper, published, write

HOLDS, FAILS = "holds", "does not hold"
ONLY_PUBLISHED, UNDECIDED = "holds only with the published wiring", "not decidable"


def verdicts(root: Path, models: dict[str, Made]) -> dict[int, str]:
    judgements = judge(read_results(write(root, models)))
    return {judgement.claim.number: judgement.verdict for judgement in judgements}


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Results:
    models = as_in_the_paper()
    return read_results(write(tmp_path_factory.mktemp("paper"), models | published(models)))


def described(results: Results) -> Results:
    return replace(results, found={model.name: model for model in results.described()})


def changed(root: Path, results: Results, name: str, **changes: object) -> Results:
    """`results` with one variant measured anew: as in the paper but for `changes`."""
    made = replace(as_in_the_paper()[name], **changes)
    return replace(results, found=results.found | read_results(write(root, {name: made})).found)


def test_every_claim_holds_on_numbers_like_the_papers(paper):
    for results in (paper, described(paper)):
        assert [judgement.verdict for judgement in judge(results)] == [HOLDS] * 9


CONTRADICTIONS = [
    (1, "recursive", {"high_frequency_ratio": 0.15}),
    (1, "recursive", {"high_frequency_ratio": 8.0}),  # grain is no sharpness
    (1, "recursive", {"ssim": 0.6}),
    (2, "recursive", {"grid_ratio": 1.0}),
    (3, "recursive", {"error": around(280)}),
    (3, "recursive", {"error": around(258)}),
    (4, "recursive_bn", {"error": around(230)}),
    (4, "recursive_bn", {"contrast_ratio": 1.0}),
    (5, "recursive_bn", {"error": around(200)}),
    (5, "stacked_bn", {"error": around(200)}),
    (6, "recursive_shared_bn", {"error": around(9000)}),
    (6, "recursive_shared_bn", {"error": around(220)}),
    (6, "recursive_shared_bn", {"high_frequency_ratio": 0.15}),
    (6, "recursive_shared_bn", {"ssim": 0.6}),
    (6, "recursive_shared_bn", {"grid_ratio": 2.0}),
    (7, "recursive_shared_bn_relu", {"error": around(470)}),
    (7, "recursive_shared_bn_relu", {"grid_ratio": 1.0}),
    (8, "stacked_vae", {"samples_found": 0.1}),
    (8, "stacked_vae", {"high_frequency_ratio": 0.9}),
    (8, "recursive_vae", {"samples_found": 0.9}),
]


@pytest.mark.parametrize(("number", "name", "changes"), CONTRADICTIONS)
def test_a_contradicting_number_flips_the_verdict(tmp_path, paper, number, name, changes):
    results = changed(tmp_path, paper, name, **changes)
    claim = (CLAIMS[number - 1],)
    assert judge(results, claim)[0].verdict == ONLY_PUBLISHED
    assert judge(described(results), claim)[0].verdict == FAILS


@pytest.mark.parametrize(("wild", "verdict"), [("recursive", HOLDS), ("stacked", FAILS)])
def test_sensitivity_follows_the_spread_over_seeds_and_variants(tmp_path, wild, verdict):
    names = [name for name in as_in_the_paper() if not name.endswith("vae")]
    models = {
        name: Made(around(250 * k**2, 0.1) if wild in name else around(250, 0.001))
        for k, name in enumerate(names, start=1)
    }
    assert verdicts(tmp_path, models)[9] == verdict


def test_with_one_seed_only_an_overwhelming_difference_counts(tmp_path):
    found = verdicts(tmp_path, as_in_the_paper(seeds=1))
    assert found[3] == UNDECIDED
    assert found[9] == UNDECIDED
    assert found[4] == HOLDS
    assert found[7] == HOLDS


def test_a_difference_within_the_spread_over_seeds_is_not_decidable(tmp_path, paper):
    results = changed(tmp_path, paper, "recursive", error=around(239, 0.2))
    assert judge(results, CLAIMS[2:3])[0].verdict == UNDECIDED


def test_a_missing_variant_is_named_where_it_is_missed(paper):
    for name in as_in_the_paper():
        rest = {other: model for other, model in paper.found.items() if other != name}
        judgements = judge(replace(paper, found=rest))
        missed = [judgement for judgement in judgements if judgement.verdict == UNDECIDED]
        assert missed
        for judgement in missed:
            told = [finding for finding in judgement.described if finding.answer == "missing"]
            assert told
            assert all(f"{name}: not among the variants" in finding.evidence for finding in told)


def test_an_unfinished_variant_says_which_file_is_missing(tmp_path):
    write(tmp_path, {"stacked": Made(), "recursive": Made()})
    (tmp_path / "reports/evaluations/stacked.csv").unlink()
    judgements = judge(read_results(tmp_path))
    assert "reports/evaluations/stacked.csv is missing" in judgements[2].described[0].evidence


def test_models_without_published_seeds_are_named_together_with_the_reason(tmp_path):
    results = read_results(write(tmp_path, as_in_the_paper()))
    (third,) = judge(results, CLAIMS[2:3])
    told = "published_recursive, published_stacked: not trained (no published_seeds)"
    assert third.published[0].evidence == told


def test_claims_are_the_papers_nine():
    assert [claim.number for claim in CLAIMS] == list(range(1, 10))


def two(root: Path, first: list[float], second: list[float]):
    found = read_results(write(root, {"recursive": Made(first), "stacked": Made(second)})).found
    return found["recursive"], found["stacked"]


def test_the_ratio_of_errors_is_that_of_the_means_over_seeds(tmp_path):
    effect = compare_errors(*two(tmp_path, [200, 220, 240], [100, 110, 120]))
    assert np.exp(effect.value) == pytest.approx(2, rel=1e-6)
    assert effect.n == 3
    assert effect.seeds == pytest.approx((np.log(2), np.log(2)), abs=1e-6)
    mean, (low, high), share = compare_each_image(*two(tmp_path / "again", [200, 200], [100, 100]))
    assert low < mean < high
    assert mean == pytest.approx(2, rel=0.01)
    assert share == 0


def test_only_the_seeds_that_both_have_are_compared(tmp_path):
    effect = compare_errors(*two(tmp_path, [200, 900, 900], [100]))
    assert np.exp(effect.value) == pytest.approx(2, rel=1e-6)
    assert effect.n == 1
    assert effect.seeds is None


def test_the_interval_over_images_is_that_of_paired_images(tmp_path):
    first, second = two(tmp_path, [100], [100])
    difference = np.log(first.test_error / second.test_error)[0].astype(float)
    low, high = compare_errors(first, second).images
    expected = 2 * 1.96 * difference.std(ddof=1) / IMAGES**0.5
    assert high - low == pytest.approx(expected, rel=0.25)
    unpaired = np.log(first.test_error[0]).std() / IMAGES**0.5
    assert high - low < unpaired


def test_rates_of_none_and_all_still_have_an_interval(paper):
    model = paper.found["recursive_vae"]
    effect = compare_measures("faces_found", model, None, "samples", factor=0.5)
    assert effect.first == 0
    assert effect.second == pytest.approx(0.49)
    assert effect.images[0] < effect.value < effect.images[1]


def test_what_was_not_measured_is_not_compared(paper):
    recursive, stacked = paper.found["recursive"], paper.found["stacked"]
    assert compare_measures("ms_ssim", recursive, stacked) is None


@pytest.mark.parametrize(
    ("images", "seeds", "higher", "lower", "not_lower"),
    [
        ((0.1, 0.3), (0.05, 0.4), True, False, True),
        ((-0.3, -0.1), (-0.4, -0.05), False, True, False),
        ((-0.1, 0.3), (0.1, 0.2), None, None, None),
        ((0.1, 0.2), (-0.1, 0.3), None, None, None),
        ((-0.01, 0.01), (-0.005, 0.005), False, False, True),
        ((-0.01, 0.2), (-0.01, 0.2), None, None, True),
        ((0.1, 0.3), None, None, None, None),
        ((0.9, 1.1), None, True, False, True),
    ],
)
def test_a_difference_counts_where_both_intervals_agree(images, seeds, higher, lower, not_lower):
    effect = Effect(2.0, 1.0, float(np.mean(images)), images, seeds, n=3 if seeds else 1)
    assert effect.is_("higher") is higher
    assert effect.is_("lower") is lower
    assert effect.is_("not lower") is not_lower


def test_a_factor_moves_the_threshold():
    effect = Effect(3.0, 1.0, np.log(3), (np.log(2.5), np.log(3.5)), (np.log(2.8), np.log(3.2)), 3)
    assert effect.is_("higher", factor=2) is True
    assert effect.is_("higher", factor=3) is None
    assert effect.is_("higher", factor=4) is False


def test_one_seed_counts_beyond_the_assumed_spread_only():
    step = np.log(comparisons.ONE_SEED_RATIO)
    for value, answer in ((0.99 * step, None), (1.01 * step, True)):
        assert Effect(1.0, 1.0, value, (value, value), None, 1).is_("higher") is answer
