"""The filter bank of a batch, against torchaudio one clip at a time (what CAV-MAE's own loader does)."""

from __future__ import annotations

import torch

from aai.fbank import fbank

CLIPS, SECONDS, RATE = 16, 10, 16000


def rows(measure) -> list[dict]:
    import torchaudio

    clips = torch.randn(CLIPS, SECONDS * RATE) * 0.1

    def one_by_one() -> None:
        for clip in clips:
            torchaudio.compliance.kaldi.fbank(
                clip[None] - clip.mean(),
                htk_compat=True,
                sample_frequency=RATE,
                use_energy=False,
                window_type="hanning",
                num_mel_bins=128,
                dither=0.0,
                frame_shift=10,
            )

    seconds = measure({"ours": lambda: fbank(clips, RATE), "torchaudio": one_by_one})
    return [
        {
            "what": f"fbank, {CLIPS} clips of {SECONDS} s as a batch",
            "value": CLIPS / seconds["ours"],
            "unit": "clips/s",
            "ratio": seconds["torchaudio"] / seconds["ours"],
        },
        {
            "what": "torchaudio, one clip at a time",
            "value": CLIPS / seconds["torchaudio"],
            "unit": "clips/s",
            "ratio": 1.0,
        },
    ]
