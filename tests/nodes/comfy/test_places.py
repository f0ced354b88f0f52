"""How many places of references stand in front of the picture's own, and how large a place is."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def places(pack):
    return pack.part("nodes.comfy.places")


def model(name, **attributes):
    made = type(name, (torch.nn.Module,), {})()
    for key, value in attributes.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize(
    "name, attributes, named, count",
    [
        (
            "OmniGen2Transformer2DModel",
            dict(patch_size=2),
            dict(ref_latents=[(1, 4, 6, 5), (1, 4, 2, 2)]),
            10,
        ),
        ("HunyuanVideo", dict(patch_size=[1, 2, 2]), dict(ref_latent=(1, 4, 1, 4, 4)), 4),
        ("SCAILWanModel", dict(patch_size=(1, 2, 2)), dict(reference_latent=(1, 4, 3, 4, 4)), 12),
        ("WanModel", dict(patch_size=(1, 2, 2), ref_conv=None), dict(reference_latent=(1, 4, 4, 4)), 0),
        ("WanModel", dict(patch_size=(1, 2, 2), ref_conv=1), dict(reference_latent=(1, 4, 4, 4)), 4),
        ("WanModel", dict(patch_size=(1, 2, 2), ref_conv=1), {}, 0),
        ("Flux", dict(patch_size=2), dict(ref_latents=[(1, 4, 4, 4)]), 0),
    ],
)
def test_references_in_front_are_counted(places, name, attributes, named, count):
    def latents(shape):
        return [torch.zeros(s) for s in shape] if isinstance(shape, list) else torch.zeros(shape)

    given = {key: latents(shape) for key, shape in named.items()}
    assert places.places_ahead(model(name, **attributes), given) == count


@pytest.mark.parametrize(
    "attributes, patch",
    [
        (dict(patch_size=2), (1, 2, 2)),
        (dict(patch_size=(1, 2, 2)), (1, 2, 2)),
        (dict(patch_size=[4, 4]), (1, 4, 4)),
        (dict(patch_spatial=2, patch_temporal=1), (1, 2, 2)),
        ({}, (1, 1, 1)),
    ],
)
def test_the_size_of_a_place(places, attributes, patch):
    assert places.patch_of(model("Any", **attributes)) == patch
