"""What a MODEL's options hold of an injection, and the options of one sampling."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ...aai.errors import InputError
from ...aai.inject.edit import Edit
from ...aai.inject.edit_run import EditRun
from ...aai.inject.heatmap import Heatmap
from ...aai.inject.loudness import Reweight
from ...aai.inject.words import WordScale
from ...aai.prompt import TokenIds
from .kept import KeptFilm

KEY = "aai_injection"
"""Under it a MODEL's transformer options hold its Attachment, and its wrappers are known by it."""
RUN = "aai_sampling"
"""Under it the options of one sampling hold its SamplingRun."""


@dataclass(frozen=True)
class Attachment:
    """What a MODEL samples with, the heat map that its next sampling fills, and the film that its samplings
    are kept for. A U-Net's conditionings may be repeated to another's length, a transformer's never."""

    injection: Edit | Reweight
    heatmap: Heatmap | None = None
    is_unet: bool = True
    kept: KeptFilm | None = None


@dataclass
class SamplingRun:
    """One sampling of a MODEL with an Attachment.

    token_ids: {a conditioning's uuid: its prompts' token ids} of those that the injection belongs to.
    prompts: the same without what core has added to the conditionings.
    negative: the negative conditionings' uuids.
    observed: the conditionings whose maps and changes have been seen since the guider's last call.
    observing: whether this call is seen: other nodes' guidance (SAG, PAG) calls the model once more, with
    attention that is not the picture's.
    texts: those of a clip's frames [n * L, D], on the device once the model has been called.
    retained: places of core's context windows that hold the latent frame of their own number.
    batch: how many latents are sampled.
    """

    edit: EditRun
    token_ids: dict[uuid.UUID, tuple[TokenIds, ...]]
    negative: set[uuid.UUID]
    heatmap: Heatmap | None = None
    prompts: dict[uuid.UUID, tuple[TokenIds, ...]] = field(default_factory=dict)
    observed: set[uuid.UUID] = field(default_factory=set)
    observing: bool = True
    texts: Tensor | None = None
    retained: tuple[int, ...] = ()
    batch: int | None = None

    def rows_of(self, x: Tensor, uuids: Sequence) -> int:
        """How many rows of a model's batch each conditioning has. Raises InputError where they are more than
        are sampled: tiles beside each other, in an order of their own."""
        count = len(x) // len(uuids)
        if self.batch is not None and count > self.batch:
            raise InputError(
                "Another node draws several tiles in one batch, in which an edit does not find its pictures: "
                "set its tile_batch_size to 1."
            )
        return count

    @property
    def words(self) -> tuple[WordScale, ...]:
        """The words that have a weight."""
        return self.edit.plan.words

    @property
    def prompted(self) -> set[uuid.UUID]:
        """The conditionings that the injection belongs to, but for negative ones."""
        return self.token_ids.keys() - self.negative
