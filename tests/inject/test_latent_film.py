"""Films from video models: what each latent frame shows of a timeline with a frame for each picture."""

import numpy as np
import pytest
import torch

from aai.errors import InputError
from aai.inject.film import SOURCE, FilmPlan, Shot
from aai.inject.latent_film import MOST_TEXTS, latent_length, latent_plan, taken
from aai.inject.timeline import Timeline
from aai.inject.windows import SoundWindows
from aai.meter import LoudnessMeter


def line(stretch, scale) -> Timeline:
    count = len(stretch)
    windows = SoundWindows(
        torch.zeros(1, 4), torch.ones(1, dtype=torch.bool), torch.ones(1, 1), torch.ones(1), 0.5, 0.25, 2.0,
        LoudnessMeter(), ("rain",), "ear",
    )  # fmt: skip
    f_a = torch.zeros(max(max(stretch) + 1, 0), 4)
    return Timeline(
        16.0, ("",) * count, np.array(stretch), f_a, np.zeros(count), np.array(scale, float), windows
    )


def test_the_first_latent_frame_is_one_picture_and_the_others_are_several():
    timeline = line([0] * 5 + [1] * 4, [0.2, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5])
    assert latent_length(timeline, 4) == 3 and latent_length(timeline, 8) == 2
    assert latent_plan(timeline, 3, 4) == FilmPlan((Shot(0, 0.2), Shot(0, 1.0), Shot(1, 0.5)), (0, 1, 2))
    # Eight pictures, four of each: the louder word, at the mean of both.
    assert latent_plan(timeline, 2, 8) == FilmPlan((Shot(0, 0.2), Shot(0, 0.75)), (0, 1))


def test_a_latent_frame_draws_what_shows_most_and_nothing_is_the_source():
    found = latent_plan(line([0, 0, 1, 1, 1, -1, -1, -1, -1], [1, 2, 0.4, 0.4, 0.4, 1, 1, 1, 1]), 3, 4)
    assert found.frames == (0, 1, SOURCE) and found.shots[1] == Shot(0, 0.8)
    assert latent_plan(line([-1], [0]), 1, 4) == FilmPlan((), (SOURCE,))


def test_a_latent_fits_where_its_last_frame_begins():
    # A second at 16 frames a second is 16 pictures; Wan draws 17 of them in five frames.
    second = line([0] * 16, [1.0] * 16)
    assert latent_length(second, 4) == 5 and len(latent_plan(second, 5, 4).frames) == 5
    assert len(latent_plan(second, 2, 4).frames) == 2
    with pytest.raises(InputError, match="6 frames, which are 21 pictures of video, and the timeline 16"):
        latent_plan(second, 6, 4)


def test_shots_share_the_texts_of_their_stretches():
    frames, stretches = taken(FilmPlan((Shot(2, 1.0), Shot(2, 0.5), Shot(0, 1.0)), (0, 1, SOURCE, 2, 0)))
    assert frames == (0, 1, 3, 2, 0) and stretches == (2, 0)
    many = FilmPlan(tuple(Shot(i, 1.0) for i in range(MOST_TEXTS + 1)), tuple(range(MOST_TEXTS + 1)))
    with pytest.raises(InputError, match="65 different sounds, more than a clip can read"):
        taken(many)
    assert len(taken(many, reading=False)[0]) == MOST_TEXTS + 1
