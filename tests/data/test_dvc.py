"""The real dvc on the data stages: what reruns, and that the commands in messages work."""

import re
import shutil

import pytest

from stages.data import faces
from stages.data.pictures import write_tar
from stages.data.sources.synthetic.drawn_faces import draw
from tests.data.made_archives import write_files
from tests.test_pipeline import ROOT, RUNNING, Project, edit, environment


class DataProject(Project):
    """The pipeline's code and a folder of pictures, without git."""

    def repro(self, *arguments: str) -> list[str]:
        """The stages that `dvc repro` with these arguments ran, in their order."""
        return RUNNING.findall(self.run("dvc", "repro", *arguments))

    def change_code(self, *modules: str) -> None:
        for module in modules:
            with (self.folder / "stages/data" / module).open("a", encoding="utf-8") as file:
                file.write("# edited\n")

    def faces(self) -> int:
        return len(faces.load(self.folder / "data/faces.npy", self.folder / "data/faces.csv").paths)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DataProject:
    """On a folder of 40 pictures, prepared."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("params.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "stages", folder / "stages")
    write_files(folder / "photos", dict(draw(40)))
    nowhere = {"LFW_ARCHIVE": "/no/such/archive"}
    project = DataProject(folder, environment(folder / "site-cache") | nowhere)
    project.run("dvc", "init", "--no-scm", "-q")
    edit(project, "download", {"dataset": "own", "pictures": "photos"})
    assert project.repro("preprocess") == ["configure", "download", "preprocess"]
    assert project.faces() == 40
    return project


def test_a_new_picture_is_noticed(project: DataProject) -> None:
    assert project.repro("preprocess") == []
    write_files(project.folder / "photos", {"New/new.jpg": dict(draw(41)).popitem()[1]})
    assert project.repro("preprocess") == ["download", "preprocess"]
    assert project.faces() == 41


def test_other_settings_and_other_datasets_code_rerun_nothing(project: DataProject) -> None:
    drawing, own = "sources/synthetic/drawn_faces.py", "sources/own/own_pictures.py"
    edit(project, "download", {"count": 77})
    project.change_code(drawing, "sources/lfw/dataset.yaml", "fetch.py")
    assert project.repro("preprocess") == ["configure"]
    project.change_code(own)
    assert project.repro("--dry", "preprocess") == ["download"]
    edit(project, "download", {"dataset": "synthetic", "count": 64})
    project.repro("download")
    project.change_code(own)
    assert project.repro("--dry", "download") == []
    project.change_code(drawing)
    assert project.repro("--dry", "download") == ["download"]


@pytest.mark.slow
def test_what_messages_advise_works(project: DataProject) -> None:
    edit(project, "download", {"dataset": "own", "pictures": "photos"})
    project.repro("preprocess")
    expected = project.faces()
    (project.folder / "data/faces.npy").write_bytes(b"damage")
    (command,) = re.findall(r"`dvc repro (.*)`", faces.REMEDY)
    assert project.repro(*command.split()) == ["preprocess"]
    assert project.faces() == expected
    (project.folder / "data/own.tar").write_bytes(b"damage")
    project.repro("download")
    assert project.repro("preprocess") == []
    assert project.faces() == expected


def test_lfw_that_is_here_is_not_fetched_again(project: DataProject) -> None:
    """Nor deleted where it cannot be: LFW_ARCHIVE, and with it any fetching, leads to nothing."""
    write_tar(dict(draw(40)), project.folder / "data/lfw.tar")
    edit(project, "download", {"dataset": "lfw"})
    said = project.run("dvc", "repro", "download", fails=True)
    assert "LFW_ARCHIVE: /no/such/archive does not exist" in said
    assert (project.folder / "data/lfw.tar").exists()
