"""The picture library that SoundWorld's sounds find their references in."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from aai.errors import InputError
from aai.soundworld import library


class Colours:
    """Sees the mean colour of a picture, [N, 3] of length one; counts its calls."""

    sees, calls = True, 0

    def embed_images(self, pictures):
        self.calls += 1
        return F.normalize(pictures.mean((2, 3)), dim=-1)


def test_the_library_is_drawn_without_other_processes(monkeypatch):
    """Windows has no fork, and a server of many threads is not to be forked."""
    import multiprocessing

    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: pytest.fail(f"{kind} was asked for"))
    library.library_pictures.cache_clear()
    drawn = library.library_pictures(3)
    assert drawn.shape == (3, 3, 128, 128) and drawn.dtype == torch.uint8


def test_the_nearest_pictures_come_first(monkeypatch):
    drawn = library.library_pictures(5)
    monkeypatch.setattr(library, "library_pictures", lambda: drawn)
    encoder = Colours()
    wanted = encoder.embed_images(drawn.float() / 255)[3]
    pictures, scores = library.references(wanted, encoder, k=2)
    torch.testing.assert_close(pictures[0], drawn[3].float() / 255)
    assert pictures.shape == (2, 3, 128, 128) and 1 + 1e-5 > scores[0] >= scores[1]
    calls = encoder.calls
    library.library_features(encoder)
    assert encoder.calls == calls
    assert library.library_features(Colours()) is not library.library_features(encoder)


def test_an_encoder_that_sees_nothing_is_refused():
    blind = SimpleNamespace(sees=False, name="a CLAP")
    with pytest.raises(InputError, match="a CLAP cannot see"):
        library.library_features(blind)
