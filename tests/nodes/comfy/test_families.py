"""What is looked up of a family, by the class of what is loaded."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def families(pack):
    return pack.part("nodes.comfy.families")


def test_a_class_is_known_by_what_it_is_derived_from(families):
    class FluxClipModel:
        pass

    class Later(FluxClipModel):
        pass

    assert families.find(families.POOLED, Later()) == ("clip_l",)
    assert families.find(families.POOLED, object()) is None


def test_every_class_of_the_tables_is_cores(families, comfy):
    import comfy.model_base
    import comfy.text_encoders as folder

    text = "".join(
        path.read_text(encoding="utf-8")
        for path in __import__("pathlib").Path(next(iter(folder.__path__))).glob("*.py")
    )
    newer = ("Kandinsky5TEModel", "LongCatImageTEModel")
    for table in (families.POOLED, families.CONTEXT, families.CUT_OFF):
        assert all(f"class {name}(" in text or name in newer for name in table), table
    for name in families.UNTRAINABLE:
        assert hasattr(comfy.model_base, name) or name == "Anima"


def test_what_is_drawn_without_guidance_is_cores(families, comfy):
    import comfy.supported_models

    assert hasattr(comfy.supported_models, "FluxSchnell")
    kind = type("FluxSchnell", (), {})
    assert families.is_one(families.DISTILLED, kind())
    assert not families.is_one(families.DISTILLED, comfy.supported_models.Flux({}))


def test_whose_weights_they_are_is_in_their_modules_name(families):
    class Linear:
        pass

    assert families.engine(Linear()) is None
    Linear.__module__ = "custom_nodes.ComfyUI-GGUF.ops"
    assert families.engine(object(), Linear()) == "GGUF"
    Linear.__module__ = "nunchaku.models.linear"
    assert families.engine(Linear()) == "Nunchaku"
