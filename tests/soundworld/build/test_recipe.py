"""The parts of SoundWorld's recipe: what they are made of, and that each is made once."""

import pytest
import torch

from aai.soundworld.build.ears import Sources
from aai.soundworld.build.recipe import Build, Report


def test_a_part_is_made_once_and_read_back(tmp_path):
    build, made = Build(tmp_path / "work", Sources(), 0.0, 0.0, 0), []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"x": torch.arange(3)}

    for _ in range(2):
        assert build.keep("part", make)["x"].tolist() == [0, 1, 2]
    assert len(made) == 1 and [path.name for path in (tmp_path / "work").iterdir()] == ["part.pt"]


def test_a_part_that_was_stopped_leaves_nothing(tmp_path):
    build = Build(tmp_path, Sources(), 0.0, 0.0, 0)
    with pytest.raises(KeyboardInterrupt):
        build.keep("part", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert not list(tmp_path.iterdir())


def test_a_report_prints_one_line_in_so_many(capsys):
    report = Report()("unet", every=2)
    for step in range(4):
        report(step, 0.25, {"loss": 1.5})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("s  ")[1] for line in lines] == [f"unet {step}: 0.2500 loss 1.500" for step in (0, 2)]
