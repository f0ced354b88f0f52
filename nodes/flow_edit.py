"""Pictures and clips edited on flow models."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai.inject.flow_edit import STRENGTH
from .types import CATEGORY, Node, search_aliases


class FlowEdit(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_FlowEdit",
            display_name="Flow Edit",
            category=CATEGORY,
            **search_aliases("flowedit", "edit photo", "inversion-free editing", "unsampling"),
            description=(
                "Edits a photograph or a clip with a flow model (Flux, Z-Image, Qwen-Image, SD3.5, Wan ...) "
                "without inverting it: FlowEdit. Give KSampler the photograph's latent, and as positive the "
                "prompt of what is to be there."
            ),
            inputs=[
                io.Model.Input("model", tooltip="A flow model."),
                io.Conditioning.Input("source", tooltip="The prompt of what the picture shows."),
                io.Float.Input(
                    "source_cfg",
                    default=1.0,
                    min=1.0,
                    max=30.0,
                    step=0.1,
                    tooltip="The guidance of the source's prompt, lower than KSampler's cfg: 3.5 beside 13.5 "
                    "(SD3.5). 1 where guidance is distilled (Flux): put FluxGuidance behind each prompt, "
                    "1.5 and 5.5.",
                ),
                io.Float.Input(
                    "strength",
                    default=round(STRENGTH, 2),
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="The share of the steps that edit. More changes more.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "edit_model",
                    display_name="model",
                    tooltip="For KSampler: its steps, scheduler, seed and cfg; its sampler_name is not used.",
                ),
                io.Sampler.Output(
                    "sampler", display_name="sampler", tooltip="For SamplerCustomAdvanced instead."
                ),
            ],
        )

    @classmethod
    def execute(cls, model, source, source_cfg, strength) -> io.NodeOutput:
        from .comfy import flow_edit

        made = flow_edit.attach(model, source, source_cfg, strength)
        return io.NodeOutput(made, flow_edit.sampler(source, source_cfg, strength))


NODES = [FlowEdit]
