"""Frames of a video, and the choice among them."""

import struct

import av
import numpy as np
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


@pytest.mark.parametrize(
    "matrix, turned",
    [
        ((0, 1, 0, -1, 0, 0), Image.Transpose.ROTATE_270),
        ((0, -1, 0, 1, 0, 0), Image.Transpose.ROTATE_90),
        ((-1, 0, 0, 0, -1, 0), Image.Transpose.ROTATE_180),
    ],
)
def test_a_phones_frames_stand_upright(tmp_path, matrix, turned):
    """The matrix of a track's head turns its pictures: the first of these clockwise by a quarter."""
    with av.open(str(tmp_path / "plain.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:24, :32] = 255
        container.mux([*stream.encode(av.VideoFrame.from_ndarray(pixels)), *stream.encode(None)])
    content = (tmp_path / "plain.mp4").read_bytes()
    one = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    head = content.index(one, content.index(b"tkhd"))
    turn = struct.pack(">9i", *(value << 16 for value in matrix), 0, 0, 1 << 30)
    (tmp_path / "phone.mp4").write_bytes(content[:head] + turn + content[head + len(one) :])
    (plain,) = video_frames(tmp_path / "plain.mp4", 1, 0.0, 0.1)
    (phone,) = video_frames(tmp_path / "phone.mp4", 1, 0.0, 0.1)
    assert phone.tobytes() == plain.transpose(turned).tobytes() and phone.size == plain.transpose(turned).size
