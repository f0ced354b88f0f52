"""A study's subject: known by itself, not by its tensors."""

from dataclasses import replace

import torch

from aai.audio import Sound
from aai.study.subject import Subject


def test_a_subject_is_itself_alone_and_may_lack_what_is_not_known():
    sound = Sound(torch.zeros(1, 8), 16000)
    dog = Subject("dog", "1.wav", sound, torch.zeros(4))
    assert (dog.mate, dog.frame, dog.intensity) == (None, None, None)
    # Of the same name, as dog/1.wav and rain/1.wav are; equality of tensors would have no truth.
    rain = replace(dog, label="rain")
    assert dog != rain and dog != replace(dog) and len({dog, rain, dog}) == 2
