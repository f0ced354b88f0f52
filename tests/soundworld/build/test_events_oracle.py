"""The oracle of several events: what it learns from, and that it learns."""

import torch

from aai.soundworld.build import events_oracle as build
from aai.soundworld.loaders import load_oracle
from aai.soundworld.oracle import EventsOracle


def test_pictures_show_as_many_events_as_are_asked_for():
    pictures, there = build.pictures_of(4, build.SEED, 2)
    assert pictures.shape == (4, 3, 128, 128) and pictures.dtype == torch.uint8
    assert there.sum(1).tolist() == [2.0] * 4
    again, _ = build.pictures_of(4, build.SEED, 2)
    assert torch.equal(pictures, again)
    _, any_number = build.pictures_of(40, build.SEED)
    assert set(any_number.sum(1).tolist()) >= {1.0, 2.0}


def test_it_begins_from_the_oracle_of_one_event_and_learns():
    begun = build.from_oracle()
    for name, tensor in load_oracle().down.state_dict().items():
        assert torch.equal(begun.down.state_dict()[name], tensor)
    pictures, there = build.pictures_of(48, build.SEED)
    images = pictures.float() / 255

    def loss(oracle: EventsOracle) -> float:
        with torch.no_grad():
            return float(torch.nn.functional.binary_cross_entropy_with_logits(oracle(images), there))

    before = loss(begun)
    trained = build.train(begun, pictures, there, steps=12, batch=16)
    assert loss(trained) < 0.8 * before
    assert not any(parameter.requires_grad for parameter in trained.parameters())
    shown = trained.events(torch.rand(2, 3, 96, 160))
    assert len(shown) == 2 and all(isinstance(row, set) for row in shown)
