"""Settings that suit the pictures that somebody gives."""

import shutil
from pathlib import Path

import pytest

from stages import own
from stages.common.settings import read_params
from tests.conftest import ROOT
from tests.data.made_archives import write_files


@pytest.mark.parametrize(("count", "epochs", "steps"), [(30, 667, 3), (200, 400, 5), (5, 0, 0)])
def test_steps_suit_the_number_of_pictures(
    count: int,
    epochs: int,
    steps: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own, "minutes", lambda trained: 1.0)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "settings", tmp_path / "settings")
    before = Path("params.yaml").read_bytes()
    write_files(tmp_path / "faces", {f"P{k}/a.jpg": b"%d" % k for k in range(count)})
    if not epochs:
        with pytest.raises(SystemExit):
            own.main("faces")
        assert f"faces has {count} pictures; 20 are the least" in capsys.readouterr().err
        assert Path("params.yaml").read_bytes() == before
        return
    own.main("faces")
    assert f"{count} pictures of " in (said := capsys.readouterr().out)
    assert f" people, {epochs} epochs of {steps} steps: all trainings take about 1.0" in said
    params = read_params()
    assert params.download.pictures == str(tmp_path / "faces")
    assert {variant.epochs for variant in params.variants.values()} == {epochs}
    assert params.variants["recursive_then_stacked"].stacked_epochs == epochs // 5
