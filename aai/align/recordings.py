"""Which clips were cut from one recording, as their names or their folds tell."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

from ..data.clips import Clip
from ..data.names import FOLD

NAMES = (
    # UrbanSound8K: recording-class-occurrence-slice. A class has one digit, so that dates are none of these.
    re.compile(r"(?:^|[/_])(\d+)-\d-\d+-\d+$"),
    # ESC-50 and ESC-10: fold-recording-take-target, and without the target.
    re.compile(r"(?:^|[/_])\d-(\d+)-[A-Z](?:-\d+)?$"),
    # VGGSound and AudioSet: video_start and video_start_end. A video has 11 random characters, the last of
    # 16. Nearly all have the kinds that are asked for; a word of 11 letters, whose numbered clips are not of
    # one recording, has not.
    re.compile(
        r"(?:^|[/_])Y?((?=[\w-]{0,10}[A-Z])(?=[\w-]{0,10}[a-z])(?=[\w-]{0,10}[\d_-]|(?:[a-z]*[A-Z]){3})"
        r"[\w-]{10}[AEIMQUYcgkosw048])_\d+(?:\.\d+)?(?:_\d+(?:\.\d+)?)?$",
        re.ASCII,
    ),
)
"""How the names of clips begin with their recording's in public sets; prepared clips have a path before."""


APART = re.compile(r"-[0-9a-f]{8}$")
"""What `data.listing` adds to ids that would be one file on some system."""


def recording_of(id: str) -> str | None:
    """The recording of a clip, by the clip's id; None where that does not tell."""
    ids = (id, APART.sub("", id))
    return next((match[1] for name in NAMES for one in ids if (match := name.search(one))), None)


def groups_of(clips: Sequence[Clip]) -> list[Hashable]:
    """Each clip's group; clips of two groups share no recording. It is the clip's fold where the clips are of
    several, else its recording, by its name or by the file that it was cut from; where neither is known, it
    is the clip's own."""
    several = len({clip.split for clip in clips}) > 1
    return [
        clip.split
        if several and FOLD.fullmatch(clip.split)
        else recording_of(clip.id) or clip.recording or number
        for number, clip in enumerate(clips)
    ]
