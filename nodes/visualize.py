"""Views of a result: where a sound's word looked on the picture, and what an edit changed."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui
from torch import Tensor
from torch.nn import functional as F

from ..aai.errors import InputError
from .types import CATEGORY, AttentionMapsType, Node, search_aliases


class AttentionHeatmap(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_AttentionHeatmap",
            display_name="Attention Heatmap",
            category=CATEGORY,
            **search_aliases("cross-attention map", "where a word looks", "daam"),
            description=(
                "Watches where the sounds' words look while KSampler draws; Draw Heatmap shows it on the "
                "finished picture, which stays the same to the last bit. Stands right before KSampler."
            ),
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model, or Prompt To Prompt Edit's or Loudness Reweight's."
                ),
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="The prompt with the tokens: Sound Token Conditioning's, or Prompt To Prompt "
                    "Edit's. KSampler takes the same.",
                ),
            ],
            outputs=[
                io.Model.Output("watched_model", display_name="model", tooltip="For KSampler."),
                AttentionMapsType.Output(
                    "maps",
                    display_name="maps",
                    tooltip="For Draw Heatmap; holds the maps of the last picture that was sampled with it.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model, conditioning) -> io.NodeOutput:
        from ..aai.inject.heatmap import Heatmap
        from ..aai.prompt import token_names
        from .comfy import clip, patch

        clip.check_seen(conditioning)
        # A scale of 1 is no change: the heat map rides on it where nothing else is injected.
        unchanged = patch.with_scales(model, conditioning, [1.0])
        heatmap = Heatmap(token_names(clip.token_ids_of(conditioning)))
        return io.NodeOutput(patch.attach(model, patch.attached(model) or unchanged, heatmap), heatmap)


class DrawHeatmap(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_DrawHeatmap",
            display_name="Draw Heatmap",
            category=CATEGORY,
            **search_aliases("overlay", "attention mask"),
            description="Lays the heat map of each sound over the finished picture: where its word looked.",
            inputs=[
                AttentionMapsType.Input("maps", tooltip="From Attention Heatmap."),
                io.Image.Input(
                    "images", tooltip="The pictures that KSampler drew with Attention Heatmap's model."
                ),
                io.Float.Input(
                    "opacity",
                    default=0.6,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much the heat map covers the picture.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "overlays",
                    display_name="overlays",
                    tooltip="Every picture under the first sound's heat map, then under the second's.",
                ),
                io.Mask.Output(
                    "mask", display_name="mask", tooltip="The heat maps alone, 0 to 1, in the same order."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, maps, images, opacity) -> io.NodeOutput:
        from ..aai.inject import heatmap

        if maps.is_empty:
            raise InputError(
                "No picture has been sampled with this heat map: give KSampler Attention Heatmap's model and "
                "the same conditioning, without areas, and connect its picture here."
            )
        place = maps.place_of(len(images))
        attention = maps.maps().to(images.device)[:, place]
        values = heatmap.normalised(attention)
        masks = F.interpolate(values, images.shape[1:3], mode="bicubic").clamp(0, 1)
        heat = heatmap.coloured(masks).movedim(-3, -1)
        # A picture whose prompt does not name the sound, as an edit's source, stays as it is.
        named = (attention > 0).flatten(2).any(2)[..., None, None, None]
        covered = torch.lerp(images[..., :3].expand_as(heat), heat, opacity)
        overlays = torch.where(named, covered, images[..., :3])
        shown = {"heatmaps": _layers(maps, attention, images, heat, values), "opacity": [opacity]}
        return io.NodeOutput(overlays.flatten(0, 1), masks.flatten(0, 1), ui=shown)


class CompareImages(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_CompareImages",
            display_name="Compare Images (AAI)",
            category=CATEGORY,
            **search_aliases("before after", "slider", "difference"),
            description="A slider between the source picture and the edited ones, by mouse or arrow keys.",
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="The source picture; with nothing at `edited`, the edited ones after it, as "
                    "Prompt To Prompt Edit draws them.",
                ),
                io.Image.Input(
                    "edited", optional=True, tooltip="The edited pictures, where they come apart."
                ),
                io.Int.Input(
                    "group_size",
                    default=0,
                    min=0,
                    max=4096,
                    optional=True,
                    tooltip="With nothing at `edited`, of several latents: how many pictures stand together, "
                    "a source and its edited ones. 0: all are of one source.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images, edited=None, group_size=0) -> io.NodeOutput:
        source, others = images, edited
        if edited is None:
            size = group_size or len(images)
            if len(images) % size:
                raise InputError(
                    f"{len(images)} pictures are no groups of {size}: give group_size how many the edit "
                    "draws together, the source and the edited."
                )
            source, others = images[::size], images.unflatten(0, (-1, size))[:, 1:].flatten(0, 1)
        if not len(others):
            raise InputError(
                "There is one picture only, and nothing to compare it with: connect an edited one."
            )
        # Each source's edited pictures in turn, or as many sources, or one for all.
        before, after = previews(source), previews(others)
        each = max(1, len(after) // len(before))
        pairs = [{"before": before[min(i // each, len(before) - 1)], "after": p} for i, p in enumerate(after)]
        return io.NodeOutput(ui={"pairs": pairs})


def _layers(maps, attention: Tensor, images: Tensor, heat: Tensor, values: Tensor) -> list[dict]:
    """What the node's own view lays over one another, for each sound and each picture that it is in."""
    coloured, grey = (previews(x.flatten(0, 1)) for x in (heat, values[..., None].expand(*values.shape, 3)))
    pictures = previews(images)
    pairs = [(name, picture) for name in maps.names for picture in pictures]
    most = attention.amax((1, 2, 3)).repeat_interleave(len(images)).tolist()
    shares = maps.shares().repeat_interleave(len(images) // maps.pictures, 1).flatten().tolist()
    return [
        {"token": name, "picture": picture, "heat": drawn, "values": plain, "most": top, "share": share}
        for (name, picture), drawn, plain, top, share in zip(pairs, coloured, grey, most, shares)
        if share > 0
    ]


def previews(images: Tensor) -> list[dict]:
    """Temporary picture files of an IMAGE [B, H, W, C], as the front end finds them: {"filename",
    "subfolder", "type"}."""
    return ui.PreviewImage(images).as_dict()["images"]


NODES = [AttentionHeatmap, DrawHeatmap, CompareImages]
