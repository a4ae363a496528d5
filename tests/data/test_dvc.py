"""The real dvc on the data stages: what reruns, and that the commands in messages work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.data import faces
from stages.data.pictures import write_tar
from stages.data.sources.synthetic.drawn_faces import draw
from tests.data.made_archives import write_files

ROOT = Path(__file__).parents[2]
RUNNING = re.compile(r"Running stage '([\w@-]+)'")


class Project:
    """The pipeline's code and a folder of pictures, without git."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(folder / "site-cache"),
            "DVC_NO_ANALYTICS": "1",
            "LFW_ARCHIVE": "/no/such/archive",
        }

    def ran(self, *arguments: str, fails: bool = False) -> list[str]:
        """The stages that `dvc repro` with these arguments ran."""
        done = subprocess.run(
            ["dvc", "repro", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        self.said = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, self.said
        return RUNNING.findall(self.said)

    def change(self, **settings: object) -> None:
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text("utf-8"))
        params["download"] |= settings
        path.write_text(yaml.safe_dump(params), "utf-8")

    def edit(self, module: str) -> None:
        with (self.folder / module).open("a", encoding="utf-8") as file:
            file.write("# edited\n")

    def faces(self) -> int:
        return len(faces.load(self.folder / "data/faces.npy", self.folder / "data/faces.csv").paths)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """On a folder of 40 pictures, prepared."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("params.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "stages", folder / "stages")
    write_files(folder / "photos", dict(draw(40)))
    project = Project(folder)
    subprocess.run(
        ["dvc", "init", "--no-scm", "-q"], cwd=folder, env=project.environment, check=True
    )
    project.change(dataset="own", pictures="photos")
    assert project.ran("preprocess") == ["configure", "download", "preprocess"]
    assert project.faces() == 40
    return project


def test_a_new_picture_is_noticed(project: Project) -> None:
    assert project.ran("preprocess") == []
    write_files(project.folder / "photos", {"New/new.jpg": dict(draw(41)).popitem()[1]})
    assert project.ran("preprocess") == ["download", "preprocess"]
    assert project.faces() == 41


def test_other_settings_and_other_datasets_code_rerun_nothing(project: Project) -> None:
    project.change(count=77)
    project.edit("stages/data/sources/synthetic/drawn_faces.py")
    project.edit("stages/data/sources/lfw/dataset.yaml")
    project.edit("stages/data/fetch.py")
    assert project.ran("--dry", "preprocess") == ["configure"]
    project.ran("preprocess")
    project.edit("stages/data/sources/own/own_pictures.py")
    assert project.ran("--dry", "preprocess") == ["download"]
    project.change(dataset="synthetic", count=64)
    project.ran("download")
    project.edit("stages/data/sources/own/own_pictures.py")
    assert project.ran("--dry", "download") == []
    project.edit("stages/data/sources/synthetic/drawn_faces.py")
    assert project.ran("--dry", "download") == ["download"]


@pytest.mark.slow
def test_what_messages_advise_works(project: Project) -> None:
    project.change(dataset="own", pictures="photos")
    project.ran("preprocess")
    expected = project.faces()
    (project.folder / "data/faces.npy").write_bytes(b"damage")
    message = faces.REMEDY
    command = re.search(r"`dvc repro (.*)`", message)
    assert command
    assert project.ran(*command[1].split()) == ["preprocess"]
    assert project.faces() == expected
    (project.folder / "data/own.tar").write_bytes(b"damage")
    project.ran("download")
    assert project.ran("preprocess") == []
    assert project.faces() == expected


def test_lfw_that_is_here_is_not_fetched_again(project: Project) -> None:
    """Nor deleted where it cannot be: LFW_ARCHIVE, and with it any fetching, leads to nothing."""
    write_tar(dict(draw(40)), project.folder / "data/lfw.tar")
    project.change(dataset="lfw")
    project.ran("download", fails=True)
    assert "LFW_ARCHIVE: /no/such/archive does not exist" in project.said
    assert (project.folder / "data/lfw.tar").exists()
