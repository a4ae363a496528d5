"""The tables, the page and the terminal's lines say what was measured, and no more."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc_render import VegaRenderer

from stages.measure.records import Model, Records
from stages.report import tables
from stages.report.catalogue import PAPER
from stages.report.claims import AFTERWARDS, CLAIMS, judge_all
from stages.report.figures import FIGURES
from stages.report.findings import Findings, find
from stages.report.html.page import page
from stages.report.studies import Studies
from stages.report.text import readme_block, report, summary
from tests.conftest import ROOT
from tests.made_records import IMAGES, Made, around, as_in_the_paper, make, with_mean_picture

INFINITE = float("inf")


def frame(records: Records) -> pd.DataFrame:
    """table1.csv."""
    return tables.table1_csv(tables.table1(records))


def explained_by(records: Records, variant: str) -> str:
    return str(frame(records).set_index("model").explained_by[variant])


def in_short(models: Mapping[str, Made]) -> str:
    """What README.md says."""
    return " ".join(readme_block(find(make(models))).split())


def beyond(models: Mapping[str, Made], pace: Mapping[str, float] | None = None) -> str:
    """The report on what goes beyond the paper."""
    found = find(make(models), Studies(pace=pace or {}))
    return report(found, []).partition("## Beyond the paper")[2]


@pytest.fixture(scope="module")
def records() -> Records:
    """The paper's models, its ruined one as released, the candidate, and two of our own."""
    models = as_in_the_paper()
    ruined = models["recursive_bn"]
    models["recursive_bn"] = Made(around(225), last_step_error=around(300))
    models["candidate"] = Made([250.0])
    models["broken"] = Made([12110.0, INFINITE, 22110.0])
    models["deeper"] = Made([99.0, 101.0], settings={"training": "recursive", "lr": 0.5})
    return make(models, {"recursive_bn": ruined})


@pytest.fixture(scope="module")
def found(records) -> Findings:
    return find(records)


@pytest.fixture(scope="module")
def text(found) -> str:
    """The report, without figures."""
    return report(found, [])


def test_table_has_the_papers_rows_in_its_order_then_all_others(records):
    assert list(frame(records).model) == [*PAPER, "candidate", "broken", "deeper"]


def test_table_holds_what_was_measured(records):
    found = frame(records).set_index("model")
    for model, record in records.found.items():
        if record.diverged:
            continue
        table, prefix = found.loc[model.variant], tables.prefix(model[1:])
        errors = record.per_seed("error").value
        assert table[f"{prefix}error"] == pytest.approx(errors.mean())
        assert table[f"{prefix}error_sd"] == pytest.approx(errors.std(), nan_ok=True)
        assert table[f"{prefix}n"] == len(errors)
        assert table[f"{prefix}train_error"] == pytest.approx(record.mean("error", "train"))
        if model.implementation == "described":
            for measure in ("ssim", "grid_ratio", "depth_error_3"):
                assert table[f"{prefix}{measure}"] == pytest.approx(record.mean(measure))
    ruined = found.loc["recursive_bn"]
    assert {name for m in records.measures for name in (m, f"averaged_{m}")} <= {*ruined.index}
    assert "coherence" not in ruined.index  # no model has it
    assert (ruined.error, ruined.averaged_error) == pytest.approx((300, 225))
    assert (ruined.released_error, ruined.released_n) == pytest.approx((7831, 3))
    assert (ruined.paper_table1, ruined.paper_figure5) == (7831, 8336)
    assert np.isnan(found.loc["deeper"].paper_table1)
    assert np.isnan(found.loc["stacked"].released_error)
    assert found.loc["stacked_vae"].averaged_sample_faces_found == pytest.approx(0.9)


def test_numbers_of_diverged_seeds_are_counted_apart(records, found):
    broken = frame(records).set_index("model").loc["broken"]
    assert (broken.n, broken.diverged, broken.error) == (2, 1, 17110)
    assert "17110 ± 7071 (2/3)" in summary(found)
    lost = make({"stacked": Made([INFINITE, INFINITE])})
    assert frame(lost).error.isna().all()
    for text in (report(find(lost), []), summary(find(lost))):
        assert "diverged (0/2)" in text


def test_the_paper_is_explained_by_the_implementation_that_gives_its_number(records):
    assert explained_by(records, "recursive_bn") == "released"
    assert explained_by(records, "stacked") == "described"
    assert explained_by(records, "candidate") == ""
    described = {
        "stacked": Made(around(258), last_step_error=around(800)),
        "recursive_bn": Made(around(8000)),
        "recursive": Made(around(800)),
        "stacked_bn": Made([20.0, 9000.0, 420.0]),  # one seed like the paper's, by chance
    }
    released = {
        "stacked": Made(around(258)),
        "recursive_bn": Made(around(7500)),
        "recursive": Made(around(900)),
    }
    flipped = make(described, released)
    assert explained_by(flipped, "stacked") == "released"  # the last step counts
    assert explained_by(flipped, "recursive_bn") == "both"
    assert explained_by(flipped, "recursive") == explained_by(flipped, "stacked_bn") == "neither"
    copied = make({"stacked_shared_bn_relu": Made(around(643 * 1.2))})
    assert explained_by(copied, "stacked_shared_bn_relu") == "neither"


def test_each_number_of_the_paper_stands_beside_where_one_more_training_would_lie(text):
    rows = dict(re.findall(r"^\| ([\w, ]+) \| (.* \((?:Table 1|Figure 5)\).*) \|$", text, re.M))
    assert len(rows) == len(PAPER)
    ruined = "7831 (Table 1), 8336 (Figure 5) | 297 ± 1 (3) | 294 to 300 | 7753 ± 155 (3) | "
    assert rows["recursive, batch norm"] == f"{ruined}**7018 to 8562** | released"
    assert "Table 1 repeats the number" in rows["stacked, shared norm, ReLU"]
    assert "not trained (no released_seeds) | - | described" in rows["stacked, shared norm"]
    few = make({"stacked": Made([258.0]), "recursive": Made([INFINITE, 239.0, 240.0])})
    told = report(find(few), [])
    assert "197 (Figure 5) | 255 (1) | - |" in told
    assert "186 (Figure 5) | 237 ± 1 (2/3) | - |" in told
    assert "8336 (Figure 5) | not among the variants | - |" in told
    assert "one seed decides nothing about a method" in told
    assert "258 (1)" in summary(find(few))


def test_curves_are_the_held_out_errors_of_every_model(records):
    table = tables.curves_csv(records)
    assert list(table.columns) == [*Model._fields, "seed", "epoch", "error"]
    assert {Model(*model) for model in table[[*Model._fields]].to_numpy()} == {*records.found}
    final = table[(table.variant == "recursive_bn") & (table.epoch == 2)]
    final = final[final.implementation == "described"]
    assert list(final[final.weights == "averaged"].error) == around(225)
    assert list(final[final.weights == "last_step"].error) == around(300)


def test_page_states_both_verdicts_and_links_only_to_figures_there_are(records, found):
    verdicts = judge_all(records)
    text = report(found, ["figure5_errors.png"])
    for last_step, averaged in zip(*verdicts.values(), strict=True):
        claim = last_step.claim
        told = f"| {claim.number} | {claim.statement} | **{last_step.verdict}** | "
        assert f"{told}**{averaged.verdict}** |" in text
        assert f"### {claim.number}. {claim.statement}" in text
    assert "| last step | averaged |" in text
    assert set(re.findall(r"\(figures/(.*?)\)", text)) == {"figure5_errors.png"}
    everything = report(found, list(FIGURES))
    assert set(re.findall(r"\(figures/(.*?)\)", everything)) == set(FIGURES) - {"hero.png"}


def test_tables_of_the_page_have_as_many_cells_as_their_header(text):
    blocks = [block for block in text.split("\n\n") if block.startswith("| ")]
    assert len(blocks) == 8 + len(CLAIMS) + len(AFTERWARDS)
    for block in blocks:
        assert len({line.count(" | ") for line in block.splitlines()}) == 1


def test_verdicts_under_every_reading_are_given():
    text = report(find(make(as_in_the_paper(6))), [])
    header, *rows = re.findall(r"^\| .*Holm's.*\|$|^\| \d \| [^A-Z*\n]*\|$", text, re.M)
    assert "| last step on seeds 3 to 5 |" in header and len(rows) == len(CLAIMS)
    assert len({row.count("|") for row in (header, *rows)}) == 1 and "holds" in rows[2]


def test_claim_8_is_asked_of_the_other_training_s_weight_of_the_divergence_too():
    models = as_in_the_paper()
    assert "divergence" not in find(make(models)).depends[7] and "VAEs draw" not in in_short(models)
    for name, other, found in (("stacked", "recursive", 0.1), ("recursive", "stacked", 0.8)):
        settings = {"variational": True, "kl_weight": 2.0}
        models[f"{name}_vae_weight_of_{other}"] = Made(samples_found=found, settings=settings)
    turned = "both: does not hold with the other training's weight of the divergence"
    assert find(make(models)).depends[7] == turned
    sentence = "With the other's weight of the divergence it is 10% and 80%."
    assert sentence in in_short(models)
    fitted = {"densities": [], "rows": [], "fitted": {"stacked_vae": 1, "recursive_vae": 0.95}}
    told = readme_block(find(make(models), Studies(latents=fitted)))
    assert "drawn as those of faces lie, it is 100% and 95%." in " ".join(told.split())
    del models["recursive_vae"]
    models["candidate"] = Made(settings=settings)
    assert "VAEs draw" not in in_short(models)


def test_page_compares_each_recursive_model_with_its_stacked_twin(text):
    section = text.split("## Recursive against stacked")[1].split("## Beyond the paper")[0]
    told = r"\| recursive, batch norm \| stacked, batch norm \| as described \| {} \| {} "
    assert re.search(told.format("averaged", r"0\.482"), section)
    assert re.search(told.format("last step", r"0\.642"), section)
    assert "deeper" not in section  # no stacked model has its learning rate


def test_what_goes_beyond_the_paper_stands_beside_its_models():
    models = as_in_the_paper()
    assert not beyond(models)
    settings = {"training": "joint", "norm": "tied", "averaging": 0.98}
    models["mine"] = Made(around(129), high_frequency_ratio=0.5, settings=settings)
    models["broken"] = Made([INFINITE, 300.0, 310.0])
    pace = {"mine": 2.0, "broken": 1.0, "stacked": 1.0, "recursive": 4.0}
    header, _, broken, mine = re.findall(r"^\|.*\|$", beyond(models, pace), re.M)[:4]
    assert "settings, unlike stacked |" in header
    told = "error over that of {} | at equal seconds |"
    assert f"{told.format('stacked')} {told.format('recursive')}" in header
    tuned = beyond(models | {"stacked_tuned": Made(around(215))})
    references = ("stacked", "stacked_tuned", "recursive")
    assert " ".join(map(told.format, references)) in tuned
    assert mine.startswith("| mine | training joint, norm tied, averaging 0.98 |")
    # After its first of two epochs an error is twice as large.
    times = (r"0\.5", "1"), (r"0\.54", r"0\.27")
    cells = " \\| ".join(rf"{one} \([^|]*\) \| {same} \([^|]*\)" for one, same in times)
    assert re.search(rf"\| 129 ± 0 \(3\) \| {cells} \|", mine)
    assert "| 2.5 (" in mine
    diverged = r"\| 305 ± 7 \(2/3\) \| [^|]+ \| - \| [^|]+ \| - \|"
    assert re.search(diverged, broken)
    planned = models | {"mine": Made(around(129), settings={"schedule": "cosine"})}
    mine = re.findall(r"^\| mine .*", beyond(planned, pace), re.M)[0]
    assert re.search(r"\| 0\.5 \([^|]*\) \| - \| 0\.54 \([^|]*\) \| 0\.27 \(", mine)


def test_provenance_counts_images_steps_and_seeds(records, found):
    text = " ".join(summary(found).split())
    assert "Dataset lfw-deepfunneled: 9,600 training images; " in text
    assert f"{IMAGES} held-out images" in text
    assert "2 epochs (600 training steps)" in text
    assert "1 to 3 seed(s)" in text
    assert "Trained with some processor (AVX2), torch 2.0.0." in text
    assert "of 12 other people." in report(find(replace(records, people=12)), [])


def test_caveats_follow_the_data_and_the_training(records, text):
    assert "**These are" not in text and "not converged" not in text
    images = {"train": 1600, "test": IMAGES}  # 100 steps
    brief = replace(records, images=images, dataset="synthetic")
    told = report(find(brief), [])
    assert "**These are synthetic pictures" in told and "## The nine claims" in told
    assert "**The norms of recursive, batch norm have not converged: after 100 " in told
    assert "keep 37% of their start" in told
    normless = {model: one for model, one in records.found.items() if model.variant == "stacked"}
    assert "not converged" not in report(find(replace(brief, found=normless)), [])


def test_summary_fits_a_terminal_and_ends_with_the_verdicts(records, found):
    lines = summary(found).splitlines()
    assert max(map(len, lines)) <= 100
    assert [int(line.split()[0]) for line in lines[-len(CLAIMS) :]] == list(range(1, 10))
    assert any(line.split()[:2] == ["deeper", "100"] for line in lines)


@pytest.mark.parametrize("template", ["curves", "errors"])
def test_plots_of_dvc_yaml_fit_the_tables_and_their_templates(records, template):
    """What `dvc plots show` does with the tables, without its start-up."""
    found = {"table1": frame(records), "curves": tables.curves_csv(records)}
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    titled = [item for each in plots if isinstance(each, dict) for item in each.items()]
    ((title, plot),) = (item for item in titled if item[1]["template"] == template)
    ((path, y),) = ({title: plot["y"]} if isinstance(plot["y"], str) else plot["y"]).items()
    x = plot["x"] if isinstance(plot["x"], str) else plot["x"][path]
    table = found[Path(path).stem]
    where = {"template": template, "template_dir": ROOT / ".dvc/plots"}
    renderer = VegaRenderer(table.to_dict("records"), title, **where, x=x, y=y, title=title)
    filled = json.dumps(renderer.get_filled_template())
    assert "<DVC_METRIC" not in filled
    fields = set(re.findall(r'"field": "(\w+)"', filled))
    assert {y} <= fields and x in filled
    assert fields <= {*table.columns, "rev", "kind", "held_out"}


def test_what_comes_from_files_is_shown_as_it_is(records):
    hostile = "<img src=x onerror=alert(1)> [a](b) | `c` **d**\n# e\x1b[2J"
    found = {model: replace(one, machines=[hostile]) for model, one in records.found.items()}
    hostile_ones = find(replace(records, found=found))
    text = report(hostile_ones, [])
    shown = r"&lt;img src=x onerror=alert(1)> \[a\](b) \| \`c\` \*\*d\*\* # e?\[2J"
    assert f"Trained with {shown}." in text and "<img" not in text
    assert "e?[2J" in summary(hostile_ones)


def test_what_is_found_follows_the_numbers():
    models = as_in_the_paper()
    told = "| at the last step, the paper's protocol | 2 | {} (".format
    lower = in_short(models)
    assert told("0.926") + "0.88" in lower
    assert "Batch norm as the paper's text describes it ruins recursive training" in lower
    assert "| 3 | Recursive has a slightly lower error than stacked | **holds** |" in lower
    models["recursive"], models["recursive_bn"] = Made(around(516)), Made(around(600))
    higher = in_short(models)
    assert told("2") in higher and "does not ruin" in higher
    assert in_short({"recursive": Made([1.0])}).startswith("Nothing is decided: that takes two or")


def test_each_verdict_stands_beside_the_question_that_decides_it(text):
    told = re.findall(r"^\| \d \| .* \| \*\*.*\*\* \| \*\*.*\*\* \| .* \| (.*) \|$", text, re.M)
    assert len(told) == len(CLAIMS)
    assert told[2].startswith("The error of recursive is 0.926 times (") and told[2] in text
    assert told[3].endswith("that of recursive; we ask for more than 2 times.")
    rate = "The rate of faces found in samples of stacked VAE is 0.410 higher than"
    assert told[7].startswith(rate)
    assert told[8].startswith("The spread of the error over variants of recursive training is ")


def test_a_model_no_better_than_the_mean_training_picture_is_marked_so():
    records = with_mean_picture(make(as_in_the_paper()), 400)
    found = find(records)
    for text in (report(found, []), summary(found), page(records, found)):
        assert text.count("†") > 1 and "† No better than the mean training picture" in text
        assert re.search(r"recursive, shared norm\b.*†", text)
        assert not re.search(r"stacked .*258.*†", text)
    assert "†" not in summary(find(make(as_in_the_paper())))


def test_pictures_of_ones_own_have_a_report_without_the_paper():
    models = {name: as_in_the_paper()[name] for name in ("stacked", "recursive", "stacked_bn")}
    records = replace(make(models, dataset="own"), people=30)
    found = find(records)
    html = re.sub(r"<(script|style).*?</\1>|<[^>]*>", "", page(records, found), flags=re.S)
    texts = [report(found, list(FIGURES)), summary(found), html]
    for text in texts:
        assert not re.search("paper|people|face|claim|Table 1", text, re.I)
        told = " ".join(text.split())
        assert "recursive training reconstructs your pictures better than stacked" in told
        assert "0.926 times (0.884 to 0.971) that of stacked" in told and "p = 0.02" in told
    assert "(figures/hero.png)" in texts[0] and "| stacked | 258 ± 0 (3) |" in texts[0]
    few = report(find(replace(records, people=4)), [])
    assert "is not decided" in few and "4 held-out groups of pictures" in few
