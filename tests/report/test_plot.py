"""The stage: from the records on disk to everything in reports/, whole or not at all."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stages.measure.records import read
from stages.report import catalogue, figures
from stages.report.findings import find
from stages.report.text import readme_block, report
from tests.made_records import Made, as_in_the_paper, make, write

ROOT = Path(__file__).parents[2]


def plot(folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "stages.plot"]
    settings = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True)


def reports(folder: Path) -> dict[str, bytes]:
    """What plot writes."""
    made = [*(folder / "reports").glob("*.*"), *(folder / "reports/figures").glob("*")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in made}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Path:
    models = {"stacked_vae": Made(), "recursive": Made([240.0, float("inf")])}
    return write(tmp_path_factory.mktemp("evaluated"), models)


def copy(evaluated: Path, folder: Path) -> Path:
    return Path(shutil.copytree(evaluated, folder / "copy"))


def test_everything_is_written_the_same_way_in_any_locale(evaluated, tmp_path):
    folder = copy(evaluated, tmp_path)
    stale = folder / "reports/figures/figure6_released.png"
    stale.parent.mkdir()
    stale.touch()
    first = plot(folder)
    assert first.returncode == 0, first.stderr
    assert "9 Recursive is more sensitive" in first.stdout.decode()
    written = reports(folder)
    assert {"reports/table1.csv", "reports/curves.csv", "reports/README.md"} < {*written}
    assert "reports/figures/figure4_samples.png" in written
    assert not stale.exists()
    bare = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": "ascii",
        "PYTHONCOERCECLOCALE": "0",
    }
    again = plot(folder, **bare)
    assert again.returncode == 0, again.stderr
    assert "reports/README.md" in again.stdout.decode("ascii")
    assert reports(folder) == written


@pytest.mark.parametrize(("faces", "shown"), [("faces", True), ("others", False)])
def test_a_study_is_told_beside_the_faces_that_it_is_of(evaluated, tmp_path, faces, shown):
    folder = copy(evaluated, tmp_path)
    table = folder / "reports/studies/norms.csv"
    table.parent.mkdir()
    columns = "faces,variant,seed,weights,running,of_batch,population"
    rows = [columns, f"{faces},recursive,0,averaged,8000,300"]
    table.write_text("\n".join(rows), encoding="utf-8")
    assert plot(folder).returncode == 0
    told = (folder / "reports/README.md").read_text(encoding="utf-8")
    assert ("| recursive | averaged | 1 | 8000 | 300 |" in told) is shown


def test_the_report_of_before_stays_where_a_record_is_damaged(evaluated, tmp_path):
    folder = copy(evaluated, tmp_path)
    (folder / "reports/README.md").write_text("before", encoding="utf-8")
    (folder / "reports/records/recursive/curve.csv").write_text("{", encoding="utf-8")
    run = plot(folder)
    assert run.returncode == 1
    assert run.stderr.count(b"\n") == 1 and run.stderr.startswith(b"error: ")
    assert reports(folder) == {"reports/README.md": b"before"}


def test_the_report_of_before_stays_where_drawing_fails(evaluated, tmp_path, monkeypatch):
    from stages import plot as stage

    folder = copy(evaluated, tmp_path)
    (folder / "reports/README.md").write_text("before", encoding="utf-8")
    (folder / "reports/figures").mkdir()
    (folder / "reports/figures/hero.png").write_bytes(b"before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    failing = figures.Drawing(full, "")
    monkeypatch.setitem(figures.FIGURES, "figure4_samples.png", failing)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("stages.common.entry.end_with_dvc", lambda: None)
    before = reports(folder)
    with pytest.raises(SystemExit):
        stage.main()
    assert reports(folder) == before
    assert not list(folder.rglob(".partial*"))


def test_a_new_value_of_any_setting_gives_a_whole_report(tmp_path, monkeypatch):
    from stages import plot as stage

    records = make(as_in_the_paper() | {"mine": Made(), "other": Made()})
    new = {"training": "local", "norm": "group", "activation": "gelu"}
    new |= {"upsample": "shuffle", "downsample": "blur", "schedule": "linear"}
    found = {
        model: replace(record, settings=record.settings.model_copy(update=new))
        if model.variant in ("mine", "recursive_vae")
        else record
        for model, record in records.found.items()
    }
    monkeypatch.setattr(stage, "read", lambda: replace(records, found=found))
    monkeypatch.setattr("stages.common.entry.end_with_dvc", lambda: None)
    monkeypatch.chdir(tmp_path)
    Path("reports/references").mkdir(parents=True)
    Path("reports/references/contents.yaml").write_text("faces: none", encoding="utf-8")
    stage.main()
    assert {path.split("/")[1] for path in reports(tmp_path)} == {
        *("README.md", "index.html", "table1.csv", "curves.csv", "figures"),
    }
    assert "| mine | training local, norm group, activation gelu, upsample shuffle," in Path(
        "reports/README.md"
    ).read_text(encoding="utf-8")
    looks = catalogue.looks_of(stage.read())
    assert looks["mine"].dash not in (looks["stacked"].dash, looks["recursive"].dash)
    assert looks["mine"].colour != looks["other"].colour
    assert "group norm, gelu" in catalogue.families(stage.read())


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
    from stages.plot import write_findings

    monkeypatch.chdir(tmp_path)
    if before is not None:
        Path("README.md").write_text(before, encoding="utf-8")
    found = find(make(as_in_the_paper(), dataset=dataset))
    write_findings(found)
    if not written:
        assert [path.read_text("utf-8") for path in tmp_path.iterdir()] == [before] * bool(before)
        return
    expected = BLOCK.replace("old\n", readme_block(found))
    assert Path("README.md").read_text(encoding="utf-8") == expected
    write_findings(found)
    assert Path("README.md").read_text(encoding="utf-8") == expected


def test_a_variant_without_a_record_blanks_no_other(tmp_path):
    models = {name: as_in_the_paper()[name] for name in ("stacked", "recursive", "stacked_bn")}
    folder = write(tmp_path, models)
    shutil.rmtree(folder / "reports/records/stacked_bn")
    text = report(find(read(folder)), [])
    row = r"^\| stacked, batch norm \| .* \| not evaluated: no reports/records/stacked_bn"
    assert re.search(row, text, re.M)
    row = "| 3 | Recursive has a slightly lower error than stacked | **holds** | **holds** |"
    assert row in text


def test_start_up_needs_no_torch():
    code = "import sys, stages.plot; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
