"""Aligning: sound encoders learn where sounds belong in a checkpoint's text space."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai.errors import logger
from . import datasets, encoders, folders
from .pictures import draw_curve
from .training_inputs import seed_input
from .types import CATEGORY, NONE, SOUNDWORLD, Node, SoundEncoderType, fold, search_aliases

log = logger(__name__)


class AlignAudioEncoder(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="AAI_AlignAudioEncoder",
            display_name="Align Audio Encoder",
            category=CATEGORY,
            **search_aliases("train audio encoder", "fine-tune cav-mae", "contrastive"),
            description=(
                "Tunes a CAV-MAE's hearing on a small folder of sounds and pictures, so that a sound lands "
                "where its label and its pictures do in the checkpoint's text space (the paper's eq. 1). The "
                "encoder that comes in is not changed. When cancelled, the best so far is saved in "
                "models/audio_encoders. For large sets there is the command aai align train."
            ),
            inputs=[
                SoundEncoderType.Input(
                    "sound_encoder",
                    tooltip="A CAV-MAE from Load Sound Encoder, as wide as the text encoder: 768 for the "
                    "public ones. A CLAP is bridged instead.",
                ),
                io.Clip.Input(
                    "clip", tooltip="The checkpoint's text encoder; clip_l of Stable Diffusion XL."
                ),
                io.Combo.Input(
                    "dataset",
                    options=datasets.choices(),
                    default=SOUNDWORLD,
                    tooltip="A folder inside the input folder: a subfolder for each label, with its sounds "
                    "and pictures in it. SoundWorld: 120 examples that are made on the spot.",
                ),
                io.Int.Input(
                    "steps",
                    default=200,
                    min=1,
                    max=1000000,
                    tooltip="Training steps; 10 epochs in the paper.",
                ),
                io.Int.Input(
                    "batch",
                    default=32,
                    min=2,
                    max=4096,
                    tooltip="Sounds that are told from one another in a step; the paper takes 120.",
                ),
                io.Float.Input(
                    "rate",
                    default=0.00005,
                    min=0.0000001,
                    max=0.1,
                    step=0.0000001,
                    tooltip="AdamW's learning rate.",
                ),
                io.Float.Input(
                    "held_out",
                    default=0.2,
                    min=0.0,
                    max=0.9,
                    step=0.05,
                    tooltip="The share of every class that is only measured on; the weights that name most "
                    "of it right are kept. 0 trains on all and keeps the last.",
                ),
                io.Combo.Input(
                    "momentum",
                    options=["audio", "literal", "literal_shared", "none"],
                    default="audio",
                    tooltip="Whose slow twin gives L_t its targets: the audio branch, or the paper's words "
                    "in two readings; none leaves L_t out.",
                ),
                io.Float.Input(
                    "alpha",
                    default=0.4,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Eq. 1's weight: 1 - alpha for sounds and pictures, alpha/2 for L_t.",
                ),
                io.Float.Input(
                    "tau",
                    default=0.05,
                    min=0.001,
                    max=0.5,
                    step=0.001,
                    tooltip="The temperature that divides similarities.",
                ),
                io.Combo.Input(
                    "augment",
                    options=["noise", "hide", "none"],
                    default="noise",
                    tooltip="What a sound goes through before a step hears it: noise and turns in time (the "
                    "paper), hidden bands and spans, or nothing.",
                ),
                seed_input("encoder"),
                io.String.Input(
                    "name",
                    default="aligned",
                    tooltip="What the encoder is called, and a cancelled one's file.",
                ),
            ],
            outputs=[
                SoundEncoderType.Output(
                    "aligned", display_name="sound_encoder", tooltip="The aligned encoder."
                ),
                io.Image.Output("curve", display_name="curve", tooltip="The loss at each step."),
                io.String.Output(
                    "report", display_name="report", tooltip="How many of the held-out sounds it names right."
                ),
            ],
            is_output_node=True,
        )
        return fold(schema, in_sight=["dataset", "steps", "rate", "seed", "name"])

    @classmethod
    def validate_inputs(cls, dataset):
        return datasets.check(dataset)

    @classmethod
    def fingerprint_inputs(cls, dataset, **others):
        return datasets.fingerprint(dataset, others)

    @classmethod
    def execute(cls, sound_encoder, clip, dataset, held_out, augment, name, **widgets) -> io.NodeOutput:
        import torch

        from ..aai.align.augment import Augment
        from ..aai.align.pipeline import AlignData, Callbacks, align_clips, copy_for, hold_out
        from ..aai.data.clips import scan, train_split
        from ..aai.distributed import Distributed
        from ..aai.soundworld.outside import examples
        from .comfy.clip import ClipTower
        from .comfy.progress import Bar, LossCurve
        from .comfy.training import room_to_train

        name = name.strip() or "aligned"
        # Before the training: a refused name would lose what Cancel keeps of it.
        encoders.check_name(name)
        settings = align_settings(**widgets)

        show = LossCurve(settings.steps)

        def step(done: int, total: int, figures: dict) -> None:
            show(done, total, figures["loss"])

        def keep(stopped) -> None:
            file = encoders.save(aligned, f"{name}-step{len(stopped.curve)}")
            log.info("Aligning stopped; the best encoder so far is models/audio_encoders/%s.", file)

        # The executor's inference mode has no gradients; what is made outside of it is ordinary.
        with room_to_train() as device, torch.inference_mode(False), torch.enable_grad():
            tower = ClipTower(clip)
            aligned = copy_for(
                sound_encoder, tower, name, {"made_by": "Align Audio Encoder", "data": dataset}
            )
            clips = hold_out(train_split(scan(datasets.place_of(dataset))), held_out, settings.seed)
            report = align_clips(
                aligned,
                AlignData(*clips, tower, compare=True, outside=examples),
                settings,
                Augment.named(augment),
                Callbacks(Bar(), step, keep),
                distributed=Distributed(device=torch.device(device)),
            )
        curve, shown = draw_curve(report.losses, settings.steps)
        return io.NodeOutput(aligned, curve, str(report), ui={"text": [str(report)], **shown})


class BridgeSoundEncoder(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="AAI_BridgeSoundEncoder",
            display_name="Bridge Sound Encoder",
            category=CATEGORY,
            **search_aliases("clap to clip", "audio encoder"),
            description=(
                "Makes a public CLAP hear in the checkpoint's text space, in a minute or two and without any "
                "sounds: the map between the two is learned on words that both know. Put the folder of "
                "huggingface.co/laion/clap-htsat-unfused (Apache-2.0) into models/audio_encoders."
            ),
            inputs=[
                io.Combo.Input(
                    "clap",
                    options=encoders.clap_folders(),
                    tooltip="A CLAP's whole folder in models/audio_encoders: config.json, the weights, "
                    "preprocessor_config.json and the tokenizer's files.",
                ),
                io.Clip.Input(
                    "clip", tooltip="The checkpoint's text encoder; clip_l of Stable Diffusion XL."
                ),
                io.Combo.Input(
                    "sounds",
                    options=[NONE, *folders.input_folders()],
                    default=NONE,
                    tooltip="A folder inside the input folder with 8 or more sounds of many kinds, without "
                    "labels: they tell where CLAP's sounds lie. none closes the gap by words alone.",
                ),
                io.String.Input(
                    "labels",
                    default="",
                    multiline=True,
                    tooltip="Words for sounds to know besides our own 390, one a line.",
                ),
                io.Combo.Input(
                    "kind",
                    options=["ridge", "mlp"],
                    default="ridge",
                    tooltip="ridge: closed form. mlp is no longer fitted, and gives the ridge.",
                ),
            ],
            outputs=[
                SoundEncoderType.Output(
                    "sound_encoder",
                    display_name="sound_encoder",
                    tooltip="To be saved with Save Sound Encoder.",
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="How well words cross that were left out."
                ),
            ],
        )
        return fold(schema, in_sight=["clap", "sounds", "labels"])

    @classmethod
    def validate_inputs(cls, clap):
        # The answer is shown for every input that is named here. A link's value is None before it ran.
        if clap is not None and clap not in encoders.clap_folders():
            return encoders.missing(clap)
        return True

    @classmethod
    def fingerprint_inputs(cls, clap, sounds, labels, kind, **links):
        return [clap, clap and encoders.stamp(clap), sounds, datasets.stamp(sounds), labels, kind]

    @classmethod
    def execute(cls, clap, clip, sounds, labels, kind) -> io.NodeOutput:
        from ..aai.align.bridge import bridge_clap, load_sounds
        from ..aai.align.labels import LABELS
        from ..aai.encoders.clap import load_folder
        from .comfy.clip import ClipTower
        from .comfy.progress import Bar

        if kind == "mlp":
            log.warning("The bridge's network (mlp) is no longer fitted: this is the ridge.")
        examples = None if sounds == NONE else load_sounds(folders.input_folder(sounds))
        towers = load_folder(encoders.require(clap))
        labels = [*LABELS, *labels.splitlines()]
        notes = {"made_by": "Bridge Sound Encoder"}
        encoder, report = bridge_clap(*towers, ClipTower(clip), labels, examples, Bar(), notes)
        return io.NodeOutput(encoder, str(report), ui={"text": [str(report)]})


class SaveSoundEncoder(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_SaveSoundEncoder",
            display_name="Save Sound Encoder",
            category=CATEGORY,
            **search_aliases("export encoder"),
            description="Saves an encoder in models/audio_encoders, for Load Sound Encoder.",
            inputs=[
                SoundEncoderType.Input("sound_encoder", tooltip="The encoder to save."),
                io.String.Input(
                    "name",
                    default="",
                    tooltip="The file's name; folders with /. Empty takes the encoder's name.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Replace an encoder of this pack's with this name; otherwise a number is added "
                    "to it.",
                ),
            ],
            outputs=[
                io.String.Output("file", display_name="file", tooltip="What Load Sound Encoder calls it.")
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, overwrite=False, **others):
        return folders.saving_stamp(overwrite)

    @classmethod
    def execute(cls, sound_encoder, name, overwrite) -> io.NodeOutput:
        file = encoders.save(sound_encoder, name.strip() or sound_encoder.name, overwrite)
        return io.NodeOutput(file, ui={"text": [file]})


def align_settings(steps: int, seed: int, **settings):
    """AlignSettings of the widgets, with a warm-up and a rise of alpha that fit few steps."""
    from ..aai.align.settings import AlignSettings

    tenth = max(1, steps // 10)
    return AlignSettings(steps=steps, seed=seed % 2**63, warmup=min(50, tenth), ramp_steps=tenth, **settings)


NODES = [AlignAudioEncoder, BridgeSoundEncoder, SaveSoundEncoder]
