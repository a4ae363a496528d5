"""The verdicts follow the numbers: they flip when these do, and admit what is not known."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import pandas as pd
import pytest

from stages.common.settings import WEIGHTS
from stages.measure.records import Model, Records
from stages.report.catalogue import without_seeds
from stages.report.claims import (
    AFTERWARDS,
    CLAIMS,
    FAILS,
    HOLDS,
    ONLY_RELEASED,
    UNDECIDED,
    corrected,
    dependence,
    judge,
    judge_all,
    robustness,
)
from stages.report.findings import STATISTICS, find
from stages.report.statistics import ALPHA, holm
from stages.report.studies import KINDS, Studies, with_statistics
from stages.report.text import report
from tests.made_records import Made, around, as_in_the_paper, make, with_mean_picture


def verdicts(records: Records) -> dict[int, str]:
    return {judgement.claim.number: judgement.verdict for judgement in judge(records, "averaged")}


def changed(name: str, **changes: object) -> dict[str, Made]:
    """As in the paper but for one variant."""
    models = as_in_the_paper()
    return models | {name: replace(models[name], **changes)}


@pytest.mark.parametrize("released", [None, as_in_the_paper()])
def test_every_claim_holds_on_numbers_like_the_papers(released):
    found = judge_all(make(as_in_the_paper(), released))
    for weights in ("last_step", "averaged"):
        assert [judgement.verdict for judgement in found[weights]] == [HOLDS] * 9


def test_what_was_asked_afterwards_is_told_and_enters_no_verdict():
    before = verdicts(make(as_in_the_paper()))
    records = make(changed("recursive_shared_bn", high_frequency_ratio=0.3))
    assert verdicts(records) == before
    asked = report(find(records), ()).partition("### Asked afterwards")[2].partition("\n## ")[0]
    for _, questions in AFTERWARDS:
        for question in questions:
            assert asked.count(f"| {question.question} |") == len(WEIGHTS)
    no = "| sharpness of recursive, shared norm higher than recursive | averaged | **no**"
    assert no in asked


CONTRADICTIONS: list[tuple[int, str, Mapping[str, object]]] = [
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
def test_a_contradicting_number_flips_the_verdict(number, name, changes):
    claim = (CLAIMS[number - 1],)
    for released, verdict in ((None, FAILS), (as_in_the_paper(), ONLY_RELEASED)):
        records = make(changed(name, **changes), released)
        assert judge(records, "averaged", claim)[0].verdict == verdict


@pytest.mark.parametrize(("wild", "verdict"), [("recursive", HOLDS), ("stacked", FAILS)])
def test_sensitivity_follows_the_spread_over_seeds_and_variants(wild, verdict):
    names = [name for name in as_in_the_paper() if not name.endswith("vae")]
    models = {
        name: Made(around(250 * k**2, 0.1) if wild in name else around(250, 0.001))
        for k, name in enumerate(names, start=1)
    }
    assert verdicts(make(models))[9] == verdict


def test_each_kind_of_weights_has_a_verdict_of_its_own():
    found = judge_all(make(changed("recursive", last_step_error=around(300))))
    assert (found["last_step"][2].verdict, found["averaged"][2].verdict) == (FAILS, HOLDS)


def test_with_one_seed_nothing_is_decided():
    assert set(verdicts(make(as_in_the_paper(seeds=1))).values()) == {UNDECIDED}


def test_a_finding_says_how_sure_it_is_and_what_would_decide():
    (sure,) = judge(make(as_in_the_paper()), "averaged", CLAIMS[2:3])[0].described
    assert sure.p <= ALPHA
    assert f"; p = {sure.p:.2g}; chance that one seed agrees: 100%" in sure.evidence
    records = make(changed("recursive", error=around(239, 0.15)))
    (unsure,) = judge(records, "averaged", CLAIMS[2:3])[0].described
    assert unsure.answer == "unclear" and unsure.p > ALPHA
    needed = "chance that one seed agrees: 67%; about .* seeds would find a factor"
    assert re.search(needed, unsure.evidence)


def test_a_diverged_seed_is_told_and_takes_part():
    records = make(changed("recursive", error=[230.0, float("inf"), 240.0]))
    (first, _, third) = judge(records, "averaged", CLAIMS[:3])
    assert (first.verdict, third.verdict) == (UNDECIDED, UNDECIDED)
    assert "1 of 3 seeds of recursive diverged" in first.described[0].evidence
    assert first.described[0].answer == "unclear"  # of clarity there is no worst value
    assert "over 3 seeds" in third.described[0].evidence
    wrecked = make(changed("recursive_bn", error=[float("inf")] * 3))
    assert judge(wrecked, "averaged", CLAIMS[3:4])[0].described[0].answer == "yes"


@pytest.mark.parametrize("name", as_in_the_paper())
def test_a_missing_variant_is_named_where_it_is_missed_and_nowhere_else(name):
    whole = make(as_in_the_paper())
    found = {model: record for model, record in whole.found.items() if model.variant != name}
    reason = f"not evaluated: no reports/records/{name}"
    missing = {model: reason for model in whole.found if model.variant == name}
    records = replace(whole, found=found, missing=whole.missing | missing)
    for judgement in judge(records, "averaged"):
        told = [finding for finding in judgement.described if finding.answer == "missing"]
        needs = any(name in question.variants for question in judgement.claim.questions)
        assert judgement.verdict == (UNDECIDED if needs else HOLDS)
        assert bool(told) == needs
        assert all(f"{name}: {reason}" in finding.evidence for finding in told)


def test_models_that_were_not_trained_are_named_together_with_the_reason():
    (third,) = judge(make(as_in_the_paper()), "averaged", CLAIMS[2:3])
    assert third.released[0].evidence == "recursive, stacked: not trained (no released_seeds)"


def test_other_seeds_are_judged_as_if_there_were_no_more():
    models = as_in_the_paper()
    longer = {name: replace(one, error=[1.0] * 3 + [*one.error]) for name, one in models.items()}
    records = make(longer, models)
    others = without_seeds(records, {0, 1, 2})
    assert verdicts(records)[3] != HOLDS
    assert all(record.seeds == [3, 4, 5] for record in others.found.values())
    assert all(len(record.test_error) == 3 for record in others.found.values())
    assert verdicts(others) == dict.fromkeys(range(1, 10), HOLDS)
    assert others.missing[Model("stacked", "released", "averaged")] == "no other seeds"


def test_holms_correction_takes_back_answers_that_may_be_chance():
    """Over the questions of each implementation: one that is nearly certain stays."""
    models = changed("recursive", error=around(239, 0.0275))
    records = make(models | {"stacked_bn": Made(around(270, 0.0168))})
    judgements = judge(records, "averaged")
    adjusted = corrected(judgements)
    for number, verdict in ((3, UNDECIDED), (5, UNDECIDED), (4, HOLDS)):
        assert (judgements[number - 1].verdict, adjusted[number - 1].verdict) == (HOLDS, verdict)
    kinds = [[one for each in found for one in each.described] for found in (judgements, adjusted)]
    assert [one.p for one in kinds[1]] == holm([one.p for one in kinds[0]])
    assert all(one.answer == "missing" for each in adjusted for one in each.released)
    third = CLAIMS[2:3]
    assert corrected(judge(records, "averaged", third)) == judge(records, "averaged", third)


def test_robustness_gives_every_verdict_under_every_reading():
    models = as_in_the_paper(8)
    models["recursive"] = Made([300.0] * 5 + around(239))
    models |= {name: Made(around(421)) for name in ("stacked_vae", "recursive_vae")}
    readings = find(make(models)).readings
    names = ["", "with Holm's correction", "on seeds 3 to 7", "on seeds 5 to 7"]
    assert [*readings] == [*WEIGHTS] and [*readings["averaged"]] == names
    third, eighth = ([readings["averaged"][name][k - 1] for name in names] for k in (3, 8))
    assert third == [UNDECIDED, UNDECIDED, UNDECIDED, HOLDS]
    assert eighth[0] != "not measured" == eighth[3]
    told = dependence(readings)
    assert told[2] == f"both: {HOLDS} {names[3]}"
    assert not told[0], "the same under every reading"
    assert len(find(make(as_in_the_paper())).readings["averaged"]) == 2, "without later seeds"


def test_other_statistics_of_norms_are_readings_of_the_errors_alone():
    """With the statistics of the batch claim 5 fails; stacked batch norm alone is better so."""
    records = make(as_in_the_paper(), as_in_the_paper())
    normed = [name for name in as_in_the_paper() if "_bn" in name]
    rows = [*product(normed, range(3), WEIGHTS)]
    norms = pd.DataFrame(rows, columns=["variant", "seed", "weights"]).assign(running=400.0)
    norms["of_batch"] = norms["running"].where(norms["variant"] != "stacked_bn", 200.0)
    norms["population"] = norms["of_batch"].where(norms["seed"] == 0)
    of_batch, better, population = (
        with_statistics(records, norms, kinds) for kinds in STATISTICS.values()
    )
    stacked = Model("stacked_bn", "described", "averaged")
    before = records.found[stacked]
    for changed in (of_batch, better):
        half = changed.found[stacked]
        assert half.mean("error") == pytest.approx(before.mean("error") / 2)
        assert half.test_error == pytest.approx(before.test_error / 2)
    table = robustness(judge_all(records), records, {"with others": of_batch})
    readings = table["averaged"]["with others"]
    lacks = "not all measured"
    assert readings[:7] == [HOLDS, HOLDS, HOLDS, lacks, FAILS, lacks, lacks]
    assert population.found[stacked].seeds == [0] != before.seeds
    assert {*population.found[stacked].per_seed("error").index} == {0}
    lacking = with_statistics(records, norms[norms["variant"] != "stacked_bn"], ["of_batch"])
    assert "these statistics" in lacking.missing[stacked]
    study = {"rows": [], "errors": norms, "shared": dict.fromkeys(KINDS)}
    found = find(records, Studies(norms=study))
    *whole, one_seed = map("with {}".format, STATISTICS)
    assert found.depends[4] == f"both: {FAILS} {', '.join(whole)}; {UNDECIDED} {one_seed}"
    assert "| as described, the statistics of the batch |" in report(found, ())


@pytest.mark.parametrize("later", [around(421), around(100)])
def test_longer_training_is_a_reading_of_the_claims_about_these_models(later):
    models = as_in_the_paper()
    longer = {"stacked_20_epochs": models["stacked"]}
    longer["recursive_20_epochs"] = replace(models["recursive"], error=later)
    depends = find(make(models | longer)).depends
    assert depends[2] == (f"both: {FAILS} after 20 epochs" if later == around(421) else "")
    assert not any("20 epochs" in told for told in depends[3:])
    del longer["stacked_20_epochs"]
    assert not any(find(make(models | longer)).depends)


def test_models_that_learnt_nothing_decide_nothing():
    """The mean training picture has a lower error than both: no verdict between them."""
    records = make(as_in_the_paper())
    better = with_mean_picture(records, 200)
    for judgement in judge(better, "averaged"):
        assert judgement.verdict == UNDECIDED
        told = [finding.evidence for finding in judgement.described]
        assert all("model is better than the mean picture" in evidence for evidence in told)
    assert verdicts(with_mean_picture(records, 5000)) == verdicts(records)
    between = verdicts(with_mean_picture(records, 250))  # better than stacked, 258
    assert between[3] == HOLDS and between[8] == UNDECIDED


@pytest.mark.parametrize(("people", "decides"), [(None, True), (20, True), (19, False)])
def test_few_held_out_people_decide_nothing(people, decides):
    records = replace(make(as_in_the_paper()), people=people)
    assert set(verdicts(records).values()) == {HOLDS if decides else UNDECIDED}
