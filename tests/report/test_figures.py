"""The figures show the pixels and the numbers they were given, the same way everywhere."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from stages.measure.records import Model, Records
from stages.report import charts, sheets
from stages.report.catalogue import PAPER, looks_of
from stages.report.figures import FIGURES, draw_all
from tests.conftest import ROOT, python, tree
from tests.made_records import Made, around, as_in_the_paper, faces, make

SIDE = sheets.FACE
ROW = sheets.CAPTION + SIDE + sheets.GAP
INFINITE = float("inf")


@pytest.fixture(scope="module")
def records() -> Records:
    models = {name: as_in_the_paper()[name] for name in ("stacked", "recursive", "stacked_vae")}
    models["candidate"] = Made(models["recursive"].error)
    models["recursive_bn"] = Made([300.0, INFINITE])
    models["mine"] = Made([310.0], settings={"training": "recursive", "norm": "batch", "lr": 0.5})
    return make(models, {"recursive": as_in_the_paper()["recursive_bn"]})


@pytest.fixture(scope="module")
def drawn(records, tmp_path_factory) -> dict[str, Image.Image]:
    folder = tmp_path_factory.mktemp("drawn")
    return {name: Image.open(folder / name) for name in draw_all(records, folder)}


def size_of(rows: int, columns: int) -> tuple[int, int]:
    """Pixels of a sheet whose blocks are single faces."""
    return columns * (SIDE + sheets.GAP) + sheets.GAP, rows * ROW


def face(sheet: Image.Image, row: int, column: int) -> np.ndarray:
    """The pixels of one face of a sheet whose blocks are single faces, not enlarged."""
    left, top = sheets.GAP + column * (SIDE + sheets.GAP), sheets.CAPTION + row * ROW
    pixels = np.asarray(sheet)[top : top + SIDE, left : left + SIDE]
    return pixels[::2, ::2]


def test_every_figure_is_drawn(drawn):
    assert set(drawn) == set(FIGURES)
    for name, image in drawn.items():
        assert image.format == "PNG" and image.width >= 2 * SIDE, name
        darkest, brightest = image.convert("L").getextrema()
        assert darkest < 50 and brightest == 255, f"{name} is blank"


def test_no_committed_figure_is_heavy():
    committed = list((ROOT / "reports" / "figures").glob("*.png"))
    assert committed and all(path.stat().st_size < 2**20 for path in committed)


def test_reconstructions_show_pixels_as_they_are(drawn):
    sheet = drawn["figure6_reconstructions.png"]
    (shown,) = faces(1)
    assert sheet.size == size_of(4, 4)
    for column in range(4):
        assert np.array_equal(face(sheet, 0, column), shown)
        # recursive with batch norm alone, then stacked beside recursive
        expected = 255 - shown if column >= 2 else np.full_like(shown, 255)
        assert np.array_equal(face(sheet, 1, column), expected)
        assert np.array_equal(face(sheet, 2, column), 255 - shown)


def test_faint_pictures_are_not_stretched():
    faint = np.full((1, 1, 128, 128, 3), 100, np.uint8)
    faint[..., :64, :] = 110
    assert np.array_equal(face(sheets.sheet([[("faint", "", faint)]]), 0, 0), faint[0, 0])


def test_variants_of_our_own_have_a_sheet_of_their_own(drawn, records):
    assert drawn["other_variants.png"].size == size_of(2, 2)  # the candidate is `recursive`
    changed = {
        model: replace(one, settings=one.settings.model_copy(update={"epochs": 9}))
        for model, one in records.found.items()
        if model.variant == "candidate"
    }
    own = sheets.other_variants(replace(records, found=records.found | changed))
    assert own.size == size_of(2, 3)


def test_levels_have_a_panel_for_each_model_and_no_empty_one():
    made = {f"recursive{k}": Made() for k in range(8)}
    with charts.own_style():
        *_, panels = charts.curves(make(made)).subfigs
    seen = [axes for axes in panels.axes if axes.get_visible()]
    assert len(seen) == 8 and all(len(axes.lines) == 7 for axes in seen)
    assert [place for place, axes in enumerate(seen) if axes.get_ylabel()] == [0, 6]


def test_samples_show_the_latents_of_variational_models_only(drawn):
    sheet = drawn["figure4_samples.png"]
    assert sheet.height == ROW
    shown = faces(sheets.SAMPLES)
    assert np.array_equal(face(sheet, 0, 0), shown[0])
    left = sheets.GAP + SIDE + sheets.GAP
    averaged = np.asarray(sheet)[sheets.CAPTION :, left:][:SIDE, : sheets.SAMPLES * SIDE]
    assert np.array_equal(averaged[::2, ::2], np.concatenate(shown, axis=1))


def test_hero_ends_with_the_lowest_error_beyond_the_paper_that_did_not_diverge(records, drawn):
    hero = drawn["hero.png"]
    assert hero.width == size_of(1, 4)[0] > 1.5 * hero.height
    assert np.array_equal(face(hero, 0, 0), records.references.inputs[0])
    own = {"higher": Made(around(300)), "mine": Made(around(150)), "broken": Made([INFINITE, 1.0])}
    records = make(as_in_the_paper() | own)
    lowest = Model("mine", "described", "averaged")
    dark = replace(records.found[lowest], reconstructions=np.zeros_like(faces(8)))
    sheet = sheets.hero(replace(records, found=records.found | {lowest: dark}))
    assert sheet.width == size_of(1, 5)[0]
    assert not face(sheet, 0, 4).any()


def test_each_variant_has_a_look_of_its_own_in_every_figure():
    own = ["candidate", *(f"own_{number}" for number in range(8))]
    models = as_in_the_paper() | {name: Made([1.0]) for name in own}
    looks = looks_of(make(models, as_in_the_paper()))
    assert {*looks} == {*models} and len({*looks.values()}) == len(models)


def test_sheets_without_anything_to_show_are_left_out():
    records = make({"stacked": Made([250.0])})
    assert sheets.samples(records) is None
    assert sheets.other_variants(records) is None
    assert sheets.reconstructions(records, "released") is None
    assert sheets.hero(records) is not None
    assert sheets.hero(make({"recursive_vae": Made()})) is None


@pytest.mark.parametrize("name", FIGURES)
def test_models_without_a_seed_left_are_drawn_as_nothing(name):
    lost = Made([INFINITE, INFINITE])
    records = make(dict.fromkeys(("recursive", "recursive_vae"), lost), {"recursive": lost})
    with charts.own_style():
        picture = FIGURES[name].draw(records)
    if isinstance(picture, Image.Image):
        right = np.asarray(picture)[-SIDE - sheets.GAP :, -SIDE - sheets.GAP :]
        assert (right == 255).all()
    elif picture:
        assert not any(axes.collections for axes in picture.axes)


def test_error_axis_reaches_every_number(records):
    with charts.own_style():
        figure = charts.errors(records)
    low, high = figure.axes[0].get_xlim()
    numbers = np.concatenate(
        [record.per_seed("error").value for record in records.found.values()]
        + [paper.errors for paper in PAPER.values()]
    )
    numbers = numbers[np.isfinite(numbers)]
    assert low < numbers.min() and high > numbers.max()
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [paper.label for paper in PAPER.values()] + ["candidate", "mine"]


DRAW = """
import sys
from pathlib import Path
from tests.made_records import Made, make
from stages.report.figures import FIGURES, draw_all
for name in {*FIGURES} - {"curves.png", "figure5_errors.png", "hero.png"}:
    del FIGURES[name]
print(draw_all(make({"recursive": Made(), "stacked": Made()}), Path(sys.argv[1])))
sys.exit(any(name in sys.modules for name in ("torch", "matplotlib.pyplot")))
"""


def test_figures_depend_on_nothing_in_the_home_or_the_environment(tmp_path):
    """Someone's own style, and the backend that a notebook leaves to what it starts."""
    hostile = "text.usetex: true\nfont.size: 30\nfigure.dpi: 40\naxes.facecolor: red\n"
    hostile += "savefig.bbox: tight\nfont.family: cursive\nlines.linewidth: 9\n"
    for folder in (tmp_path / "config", tmp_path):
        folder.mkdir(exist_ok=True)
        (folder / "matplotlibrc").write_text(hostile, encoding="utf-8")
    inline = "module://matplotlib_inline.backend_inline"
    environments = {
        "plain": {},
        "hostile": {"MPLBACKEND": inline, "MPLCONFIGDIR": str(tmp_path / "config")},
        "broken": {"MPLBACKEND": "no such backend"},
    }
    for name, extra in environments.items():
        folder = tmp_path / name
        folder.mkdir()
        # A matplotlibrc beside counts, too.
        python("-c", DRAW, str(folder), cwd=tmp_path if name == "hostile" else folder, **extra)
        assert tree(folder) == tree(tmp_path / "plain") and len(tree(folder)) == 3


def test_the_spread_of_seeds_is_drawn_around_their_mean():
    records = make({"recursive": Made(around(200, 0.2))})
    with charts.own_style():
        axes = charts.curves(records).axes[1]
    (line,) = axes.get_lines()
    assert list(line.get_ydata()) == pytest.approx([400, 200])
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((160, 480))
