"""The families' bench: its table, README's, and the nodes' outputs as it takes them."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from aai.errors import InputError
from bench import families, tiny_models

ROOT = Path(__file__).parents[1]
FOUND = [
    {"what": "Flux.1: word", "value": "yes"},
    {"what": "Flux.1: film", "value": "yes"},
    {"what": "Anima: word", "value": "Anima reads its prompt as T5's token ids."},
    {"what": "Anima: film", "value": "none"},
]
TABLE = """| Model | word | film |
| --- | --- | --- |
| Flux.1 | yes | yes |
| Anima | no | no |"""


def test_a_familys_abilities_are_a_line():
    assert families.table(FOUND) == TABLE


def test_the_table_is_written_in_its_place_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{families.BEGIN}\nold\n{families.END}\nafter\n", encoding="utf-8")
    families.write_table(FOUND, page)
    written = page.read_text(encoding="utf-8")
    assert written == f"before\n{families.BEGIN}\n{TABLE}\n{families.END}\nafter\n"
    families.write_table(FOUND, page)
    assert page.read_text(encoding="utf-8") == written
    page.write_text("nothing", encoding="utf-8")
    with pytest.raises(InputError, match="no place for the table"):
        families.write_table(FOUND, page)


def test_readmes_table_has_every_family_and_ability():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (written,) = re.findall(f"{re.escape(families.BEGIN)}\n(.*?)\n{re.escape(families.END)}", text, re.DOTALL)
    head, _, *lines = [line.strip("| ").split(" | ") for line in written.splitlines()]
    assert head == ["Model", *families.ABILITIES]
    assert [line[0] for line in lines] == [family.name for family in tiny_models.FAMILIES.values()]
    assert {cell for line in lines for cell in line[1:]} <= set(families.CELLS)
    assert {len(line) for line in lines} == {len(head)}


def test_a_list_of_one_output_is_the_one():
    """As Prompt To Prompt Edit gives its latents: lists, for films."""
    outputs = [SimpleNamespace(is_output_list=False), SimpleNamespace(is_output_list=True)]

    class Node:
        @classmethod
        def GET_SCHEMA(cls):
            return SimpleNamespace(outputs=outputs)

        @classmethod
        def PREPARE_CLASS_CLONE(cls, _):
            return cls

        @staticmethod
        def EXECUTE_NORMALIZED(**inputs):
            return SimpleNamespace(args=("model", [inputs["latent"]]))

    assert families.run(Node, latent=3) == ("model", 3)
