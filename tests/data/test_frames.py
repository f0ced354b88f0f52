"""Frames of a video, and the choice among them."""

import pytest
from PIL import Image

from aai.data.frames import best, evenly, video_frames


def test_frames_are_those_on_screen_in_the_middle_of_each_part(videos):
    """Frame i of b.mp4 stands from i / 10 s on: of 1 s in 5 parts from second 1, frames 11, 13, ... 19."""
    greys = [Image.Image.getpixel(frame, (5, 5))[0] for frame in video_frames(videos / "b.mp4", 5, 1.0, 1.0)]
    assert greys == pytest.approx([200 * i / 30 for i in (11, 13, 15, 17, 19)], abs=4)
    assert len(video_frames(videos / "b.mp4", 20, 2.5, 10.0)) == 5
    assert evenly(20, 10) == list(range(1, 20, 2)) and evenly(3, 10) == [0, 1, 2]
    assert best([0.1, 0.5, 0.2, 0.5], 2) == [1, 3] and best([0.5, 0.5, 0.5], 2) == [0, 1]
