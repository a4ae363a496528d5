"""The stage: from the records on disk to everything in reports/, whole or not at all."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stages import plot
from stages.report import catalogue, figures
from stages.report.findings import find
from stages.report.text import readme_block
from tests.conftest import python
from tests.made_records import Made, as_in_the_paper, make, write


def reports(folder: Path) -> dict[str, bytes]:
    """What plot writes."""
    made = [*(folder / "reports").glob("*.*"), *(folder / "reports/figures").glob("*")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in made}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """What plot reads, where it is run."""
    monkeypatch.setattr("stages.common.entry.end_with_dvc", lambda: None)
    monkeypatch.chdir(tmp_path)
    return write(tmp_path, {"stacked_vae": Made(), "recursive": Made([240.0, float("inf")])})


def test_everything_is_written_the_same_way_in_any_locale(folder):
    stale = folder / "reports/figures/figure6_released.png"
    stale.parent.mkdir()
    stale.touch()
    study = folder / "reports/studies/norms.csv"
    study.parent.mkdir()
    columns = "faces,variant,seed,weights,running,of_batch,population"
    study.write_text(f"{columns}\nfaces,recursive,0,averaged,8000,300", encoding="utf-8")
    assert "9 Recursive is more sensitive" in python("-m", "stages.plot", cwd=folder)
    written = reports(folder)
    assert {"reports/table1.csv", "reports/curves.csv", "reports/README.md"} < {*written}
    assert "reports/figures/figure4_samples.png" in written
    assert not stale.exists()
    assert b"| recursive | averaged | 1 | 8000 | 300 |" in written["reports/README.md"]
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    said = python("-m", "stages.plot", cwd=folder, PYTHONIOENCODING="ascii", **bare)
    assert "reports/README.md" in said and said.isascii()
    assert reports(folder) == written


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "a damaged record": lambda _: Path("reports/records/recursive/curve.csv").write_bytes(b"{"),
    "a full disk": lambda patch: patch.setitem(
        figures.FIGURES, "figure4_samples.png", figures.Drawing(full, "")
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_report_of_before_stays_where_something_fails(folder, monkeypatch, capfd, fault):
    (folder / "reports/figures").mkdir()
    for name in ("README.md", "figures/hero.png"):
        (folder / "reports" / name).write_bytes(b"before")
    before = reports(folder)
    FAULTS[fault](monkeypatch)
    with pytest.raises(SystemExit) as error:
        plot.main()
    said = capfd.readouterr().err
    assert error.value.code == 1 and said.count("\n") == 1 and said.startswith("error: ")
    assert reports(folder) == before
    assert not list(folder.rglob(".partial*"))


def test_a_new_value_of_any_setting_gives_a_whole_report(folder, monkeypatch):
    records = make(as_in_the_paper() | {"mine": Made(), "other": Made()})
    new = {"training": "local", "norm": "group", "activation": "gelu"}
    new |= {"upsample": "shuffle", "downsample": "blur", "schedule": "linear"}
    found = {
        model: replace(record, settings=record.settings.model_copy(update=new))
        if model.variant in ("mine", "recursive_vae")
        else record
        for model, record in records.found.items()
    }
    records = replace(records, found=found)
    monkeypatch.setattr(plot, "read", lambda: records)
    plot.main()
    assert {path.split("/")[1] for path in reports(folder)} == {
        *("README.md", "index.html", "table1.csv", "curves.csv", "figures"),
    }
    told = (folder / "reports/README.md").read_text(encoding="utf-8")
    assert "| mine | training local, norm group, activation gelu, upsample shuffle," in told
    looks = catalogue.looks_of(records)
    assert looks["mine"].dash not in (looks["stacked"].dash, looks["recursive"].dash)
    assert looks["mine"].colour != looks["other"].colour
    assert "group norm, gelu" in catalogue.families(records)


BLOCK = "before\n<!-- findings: written by plot -->\nold\n<!-- end of findings -->\nafter\n"


@pytest.mark.parametrize(
    ("dataset", "before", "written"),
    [
        ("lfw-deepfunneled", BLOCK, True),
        ("synthetic", BLOCK, False),
        ("lfw-deepfunneled", "nothing to fill", False),
        ("lfw-deepfunneled", None, False),
    ],
)
def test_what_was_found_is_written_where_readme_has_a_place_for_it(
    tmp_path, monkeypatch, dataset, before, written
):
    monkeypatch.chdir(tmp_path)
    if before is not None:
        Path("README.md").write_text(before, encoding="utf-8")
    found = find(make(as_in_the_paper(), dataset=dataset))
    plot.write_findings(found)
    expected = BLOCK.replace("old\n", readme_block(found)) if written else before
    left = [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()]
    assert left == ([] if before is None else [expected])
