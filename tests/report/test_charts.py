"""The figures show the pixels and the numbers they were given, the same way for every model."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.measure.records import Results, read_results
from stages.report import charts
from stages.report.paper import PAPER
from tests.made_records import PICTURES, Made, as_in_the_paper, faces, published, write


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    models = {name: as_in_the_paper()[name] for name in ("stacked", "recursive", "stacked_vae")}
    models["candidate"] = Made(models["recursive"].error)
    models["mine"] = Made([300.0], settings={"training": "recursive", "norm": "batch"})
    ruined = published({"recursive": as_in_the_paper()["recursive_bn"]})
    return read_results(write(tmp_path_factory.mktemp("figures"), models | ruined))


@pytest.fixture(scope="module")
def drawn(results, tmp_path_factory) -> dict[str, Image.Image]:
    folder = tmp_path_factory.mktemp("drawn")
    return {name: Image.open(folder / name) for name in charts.draw_all(results, folder)}


def face(sheet: Image.Image, across: int, column: int, row: int = 0, place: int = 0) -> np.ndarray:
    """The pixels of one face of the sheet's block `place`, `across` faces wide, not enlarged."""
    side = charts.FACE * charts.ZOOM
    per_row = (sheet.width - charts.GAP) // (across * side + charts.GAP)
    left = charts.GAP + place % per_row * (across * side + charts.GAP) + column * side
    top = charts.CAPTION + row * side
    top += place // per_row * (charts.CAPTION + side + charts.GAP)
    pixels = np.asarray(sheet)[top : top + side, left : left + side]
    return pixels[:: charts.ZOOM, :: charts.ZOOM]


def test_every_figure_is_drawn(drawn):
    assert set(drawn) == set(charts.FIGURES)
    for name, image in drawn.items():
        assert image.format == "PNG", name
        assert image.width >= 700, name
        extremes = image.convert("L").getextrema()
        assert extremes[0] < 50 and extremes[1] == 255, f"{name} is blank"


def test_no_committed_figure_is_heavy():
    committed = list((Path(__file__).parents[2] / "reports" / "figures").glob("*.png"))
    assert committed and all(path.stat().st_size < 2**20 for path in committed)


def test_reconstructions_show_pixels_as_they_are(drawn):
    sheet = drawn["figure6_reconstructions.png"]
    shown = faces(PICTURES)[[0, 3]]  # evenly spaced
    for column in range(2):
        for place in (0, 1):  # the input, above the stacked and above the recursive models
            assert np.array_equal(face(sheet, 2, column, place=place), shown[column])
        for place in (2, 3):  # stacked, recursive
            assert np.array_equal(face(sheet, 2, column, place=place), 255 - shown[column])


def test_faint_pictures_are_not_stretched():
    faint = np.full((1, 1, 128, 128, 3), 100, np.uint8)
    faint[..., :64, :] = 110
    sheet = charts.sheet([("faint", "", faint)], across=1)
    assert np.array_equal(face(sheet, 1, 0), faint[0, 0])


def test_reconstructions_grow_by_a_row_for_models_without_a_twin(drawn):
    # Input, stacked with recursive, stacked VAE alone, mine alone; the candidate is `recursive`.
    row = charts.CAPTION + charts.FACE * charts.ZOOM + charts.GAP
    assert drawn["figure6_reconstructions.png"].height == 4 * row
    assert drawn["figure6_published_wiring.png"].height == 2 * row


def test_samples_show_the_latents_of_variational_models_only(drawn):
    sheet = drawn["figure4_samples.png"]
    assert sheet.height == charts.CAPTION + charts.FACE * charts.ZOOM + charts.GAP
    for column, sample in enumerate(faces(PICTURES)):
        assert np.array_equal(face(sheet, PICTURES, column), sample)


def test_hero_ends_with_the_best_recursive_model(drawn, results):
    sheet = drawn["hero.png"]
    assert sheet.width == 4 * (charts.FACE * charts.ZOOM + charts.GAP) + charts.GAP
    assert np.array_equal(face(sheet, 1, 0), results.found["stacked"].inputs[0])
    assert sheet.width > 1.5 * sheet.height


def test_a_candidate_is_shown_where_its_settings_are_its_own(tmp_path):
    heights = []
    for lr in (0.001, 0.5):
        models = {"recursive": Made(), "candidate": Made(settings={"lr": lr})}
        results = read_results(write(tmp_path / str(lr), models))
        heights.append(charts.reconstructions(results).height)
    assert heights[1] - heights[0] == charts.CAPTION + charts.FACE * charts.ZOOM + charts.GAP


def test_a_candidate_like_another_variant_is_shown_once_with_either_wiring(tmp_path):
    models = {"recursive": Made(), "candidate": Made()}
    results = read_results(write(tmp_path, models | published(models)))
    row = charts.CAPTION + charts.FACE * charts.ZOOM + charts.GAP
    assert charts.reconstructions(results).height == 2 * row
    assert charts.reconstructions_published(results).height == 2 * row


def test_each_model_has_a_look_of_its_own_in_every_figure(tmp_path):
    models = as_in_the_paper() | {"one": Made([1.0]), "two": Made([1.0]), "candidate": Made([1.0])}
    results = read_results(write(tmp_path, models | published(as_in_the_paper())))
    colours = charts.colours_of(results)
    looks = {
        name: (colours[model.variant], str(charts.line_of(model, colours)["linestyle"]))
        for name, model in results.found.items()
    }
    own = [look for name, look in looks.items() if not name.startswith("published_")]
    assert len(set(own)) == len(own)
    assert all(looks[name] == looks[f"published_{name}"] for name in PAPER)


def test_sheets_without_anything_to_show_are_left_out(tmp_path):
    results = read_results(write(tmp_path, {"stacked": Made([250.0])}))
    assert charts.samples(results) is None
    assert charts.reconstructions_published(results) is None
    assert charts.hero(results) is not None


def test_error_axis_reaches_every_number(results):
    figure = charts.errors(results)
    low, high = figure.axes[0].get_xlim()
    measured = [
        value for model in results.found.values() for value in model.per_seed("error").value
    ]
    known = [error for paper in PAPER.values() for error in paper.errors]
    assert low < min(measured + known) and high > max(measured + known)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [paper.label for paper in PAPER.values()] + ["candidate", "mine"]
