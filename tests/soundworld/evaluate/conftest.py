"""Recordings as ESC-10 lays them out, and the alignment study on them."""

import pytest

from aai.audio import save
from aai.soundworld.evaluate.align_data import Study
from aai.soundworld.sounds import synthesize


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Recordings of three classes, one that SoundWorld does not know; fold 5 is no sound at all."""
    folder = tmp_path_factory.mktemp("study")
    for name, event in (("rain", "rain"), ("rooster", "rooster"), ("chainsaw", "helicopter")):
        (folder / "esc10" / name).mkdir(parents=True)
        for fold in range(1, 5):
            save(synthesize(event, 0.6, fold), folder / "esc10" / name / f"{fold}-1-A.wav")
        (folder / "esc10" / name / "5-1-A.wav").write_bytes(b"not to be opened")
    return Study(folder / "out", folder / "esc10", sounds=10, pictures=1, tests=1, batch=4)
