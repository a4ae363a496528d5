"""Table 1, the curves, the page and the terminal's lines say what was measured, and no more."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc_render import VegaRenderer

from stages import plot
from stages.common.errors import PipelineError
from stages.measure.records import Results, read_results
from stages.report import page
from stages.report.charts import FIGURES
from stages.report.claims import CLAIMS, judge
from stages.report.paper import PAPER
from tests.made_records import IMAGES, Made, around, as_in_the_paper, published, write

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    """The paper's models, its ruined one with both wirings, the candidate, and one of our own."""
    models = as_in_the_paper()
    ruined = {"recursive_bn": models["recursive_bn"]}
    models["recursive_bn"] = Made(around(225))
    models["candidate"] = Made([250.0])
    models["deeper"] = Made([99.0, 101.0], settings={"training": "recursive", "lr": 0.5})
    return read_results(write(tmp_path_factory.mktemp("report"), models | published(ruined)))


def row(table: pd.DataFrame, name: str) -> pd.Series:
    return table.set_index("model").loc[name]


def test_table_has_the_papers_rows_in_its_order_then_all_others(results):
    assert list(page.table1(results).model) == [*PAPER, "candidate", "deeper"]


def test_table_holds_what_was_measured(results):
    table = page.table1(results)
    for name, result in results.found.items():
        if name.startswith("published_"):
            continue
        measured = row(table, name)
        for key in ("error", "error_sd", "error_se", "n", "train_error", "mse", "psnr", "ssim"):
            told = result.headline[f"test_{key}" if key.startswith("error") else key]
            assert measured[key] == told or (told is None and np.isnan(measured[key]))
        assert measured.grid_ratio == pytest.approx(result.mean("grid_ratio"))
    published = results.found["published_recursive_bn"]
    ruined = row(table, "recursive_bn")
    assert ruined.published_error == published.headline["test_error"]
    assert ruined.published_n == published.headline["n"]
    assert (ruined.paper_table1, ruined.paper_figure5) == (7831, 8336)
    assert np.isnan(row(table, "deeper").paper_table1)
    assert np.isnan(row(table, "stacked").published_error)
    assert row(table, "stacked_vae").sample_faces_found == pytest.approx(0.9)


def test_models_with_the_authors_wiring_are_columns_of_their_variants(tmp_path):
    models = {"candidate": Made([5.0]), "stacked": Made([6.0, 8.0])}
    models |= published({"candidate": Made([7.0]), "stacked": Made([9.0, 11.0])})
    results = read_results(write(tmp_path, models))
    table = page.table1(results)
    assert list(table.model) == [*PAPER, "candidate"]
    candidate, stacked = row(table, "candidate"), row(table, "stacked")
    assert (candidate.error, candidate.published_error, candidate.published_n) == (5, 7, 1)
    assert (stacked.error, stacked.published_error, stacked.published_n) == (7, 10, 2)
    assert stacked.published_error_sd == pytest.approx(2**0.5)
    assert results.found["published_candidate"].label == "candidate, published wiring"
    assert set(page.curves(results).model) == set(models)


def test_the_paper_is_explained_by_the_wiring_that_gives_its_number(results, tmp_path):
    assert page.explained_by(results, "recursive_bn") == "published"
    assert page.explained_by(results, "stacked") == "described"
    assert page.explained_by(results, "candidate") == ""
    models = {"stacked": Made(around(800)), "recursive_bn": Made(around(8000))}
    models |= published({"stacked": Made(around(258)), "recursive_bn": Made(around(7000))})
    models |= published({"recursive": Made(around(900))}) | {"recursive": Made(around(800))}
    models["stacked_bn"] = Made([20.0, 9000.0])  # on either side of the paper's, and far
    flipped = read_results(write(tmp_path, models))
    assert page.explained_by(flipped, "stacked") == "published"
    assert page.explained_by(flipped, "recursive_bn") == "both"
    assert page.explained_by(flipped, "recursive") == "neither"
    assert page.explained_by(flipped, "stacked_bn") == "neither"
    sentences = "\n".join(page.differences(flipped))
    assert re.search(r"\*\*stacked\*\*: the published wiring explains the paper's 197", sentences)
    assert re.search(r"\*\*recursive\*\*: neither wiring.*the former is nearer", sentences)
    assert "recursive, batch norm" not in sentences


def test_a_number_that_the_paper_copied_is_not_held_against_a_model(tmp_path):
    models = {"stacked_shared_bn_relu": Made(around(643 * 1.2))}
    assert page.explained_by(read_results(write(tmp_path, models)), *models) == "neither"


def test_curves_are_the_held_out_errors_of_every_model(results):
    table = page.curves(results)
    assert list(table.columns) == ["model", "seed", "epoch", "split", "loss", "value"]
    assert set(table.model) == set(results.found)
    assert set(table.loss) == {"error"}
    final = table[(table.model == "deeper") & (table.epoch == 2)].sort_values("seed")
    assert list(final.value) == [99.0, 101.0]


def test_page_states_every_verdict_and_links_only_to_figures_there_are(results):
    judgements = judge(results)
    text = page.page(results, judgements, ["figure5_errors.png"])
    for judgement in judgements:
        told = f"### {judgement.claim.number}. {judgement.claim.statement}: {judgement.verdict}"
        assert told in text
    assert set(re.findall(r"\(figures/(.*?)\)", text)) == {"figure5_errors.png"}
    everything = page.page(results, judgements, list(FIGURES))
    assert set(re.findall(r"\(figures/(.*?)\)", everything)) == set(FIGURES) - {"hero.png"}


def test_page_compares_each_recursive_model_with_its_stacked_twin(results):
    text = page.page(results, judge(results), [])
    section = text.split("## Recursive against stacked")[1].split("## Clarity")[0]
    assert re.search(r"\| recursive, batch norm \| stacked, batch norm \| 0\.482 ", section)
    assert "deeper" not in section  # no stacked model has its learning rate


def test_missing_variants_and_single_seeds_are_told(tmp_path):
    results = read_results(write(tmp_path, {"stacked": Made([258.0]), "recursive": Made([239.0])}))
    text = page.page(results, judge(results), [])
    assert "recursive, batch norm: not among the variants" in text
    assert "one seed" in text
    assert "258 (1)" in page.summary(results, judge(results))


def test_provenance_counts_images_steps_and_seeds(results):
    text = page.provenance(results)
    assert "9,600 training images" in text
    assert f"{IMAGES} held-out images" in text
    assert "2 epochs (600 training steps)" in text
    assert "1 to 3 seed(s)" in text
    unknown = page.provenance(replace(results, images=None))
    assert "steps" not in unknown


def test_caveats_follow_the_data_and_the_training(results):
    assert page.caveats(results) == []
    assert "synthetic" in page.caveats(replace(results, dataset="synthetic"))[0]
    brief = replace(results, images={"train": 1600, "test": IMAGES})  # 100 steps
    assert "keep 37% of their start" in page.caveats(brief)[0]
    without_norms = {"stacked": results.found["stacked"]}
    assert page.caveats(replace(brief, found=without_norms)) == []


def test_summary_fits_a_terminal_and_ends_with_the_verdicts(results):
    lines = page.summary(results, judge(results)).splitlines()
    assert max(map(len, lines)) <= 100
    assert [int(line.split()[0]) for line in lines[-len(CLAIMS) :]] == list(range(1, 10))
    assert any(line.split()[:2] == ["deeper", "100"] for line in lines)


def test_stage_writes_everything_the_same_way_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(write(tmp_path, {"stacked_vae": Made()}))
    written = []
    for _ in range(2):
        stale = Path("reports/figures/figure6_published_wiring.png")
        stale.parent.mkdir(exist_ok=True)
        stale.touch()
        plot.main()
        assert not stale.exists()
        files = sorted(path for path in Path("reports").rglob("*") if path.is_file())
        written.append({str(path): path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert {"reports/table1.csv", "reports/curves.csv", "reports/README.md"} < set(written[0])
    assert "reports/figures/figure4_samples.png" in written[0]
    assert not any("plot-" in name for name in written[0])
    text = capsys.readouterr().out
    assert "9 Recursive is more sensitive" in text
    assert "reports/README.md" in text


@pytest.mark.parametrize("content", ["", "{"])
@pytest.mark.parametrize(
    "damaged",
    [
        "reports/metrics/stacked.json",
        "reports/evaluations/stacked.csv",
        "data/evaluations/stacked/curve.csv",
        "data/evaluations/stacked/stacked.npz",
    ],
)
def test_stage_leaves_the_former_report_where_an_input_is_damaged(
    damaged, content, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(write(tmp_path, {"stacked": Made()}))
    Path("reports/README.md").write_text("former")
    Path(damaged).write_text(content)
    with pytest.raises(SystemExit):
        plot.main()
    assert re.fullmatch(r"error: the evaluation of stacked is damaged.*\n", capsys.readouterr().err)
    assert Path("reports/README.md").read_text() == "former"


def test_nothing_evaluated_is_an_error(tmp_path):
    write(tmp_path, {"stacked": Made()})
    (tmp_path / "data/evaluations/stacked/curve.csv").unlink()
    with pytest.raises(PipelineError, match="no variant"):
        read_results(tmp_path)


def test_a_variant_that_was_removed_is_not_shown(tmp_path):
    write(tmp_path, {"stacked": Made(), "recursive": Made()})
    (tmp_path / "configs/stacked.yaml").unlink()
    assert list(read_results(tmp_path).found) == ["recursive"]


@pytest.mark.parametrize("template", ["curves", "errors"])
def test_plots_of_dvc_yaml_fit_the_tables_and_their_templates(results, template):
    """What `dvc plots show` does with the tables, without its start-up."""
    tables = {
        "reports/table1.csv": page.table1(results),
        "reports/curves.csv": page.curves(results),
    }
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    titled = [
        (title, plot) for each in plots if isinstance(each, dict) for title, plot in each.items()
    ]
    ((title, plot),) = [(title, plot) for title, plot in titled if plot["template"] == template]
    ((path, y),) = ({title: plot["y"]} if isinstance(plot["y"], str) else plot["y"]).items()
    x = plot["x"] if isinstance(plot["x"], str) else plot["x"][path]
    points = tables[path].to_dict("records")
    renderer = VegaRenderer(
        points, title, template=template, template_dir=ROOT / ".dvc/plots", x=x, y=y, title=title
    )
    filled = json.dumps(renderer.get_filled_template())
    assert "<DVC_METRIC" not in filled
    fields = set(re.findall(r'"field": "(\w+)"', filled))
    assert {x, y} <= fields <= {*tables[path].columns, "rev", "variant", "wiring"}


def test_start_up_needs_no_torch():
    code = "import sys, stages.plot; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
