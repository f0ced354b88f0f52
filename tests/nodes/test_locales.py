"""The nodes speak seven languages: every name and tooltip, and none of what is no longer there.

python -m pytest tests/nodes/test_locales.py --write     # locales/en from the nodes; the others by hand
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "locales"
LANGUAGES = ["de", "en", "es", "fr", "ja", "ko", "zh"]
MEANT_BY_VUE = re.compile(r"[{}@|]")
"""Characters that the front end's message format reads as its own."""
SAID_BY_A_VIEW = re.compile(r'\bt\(\s*"((?:[^"\\]|\\.)*)"')
VALUE = re.compile(r"{\w+}")


def spoken(node) -> dict:
    """What a node says, in the form of nodeDefs.json; outputs go by their place."""
    schema = node.GET_SCHEMA()

    def slot(s) -> dict:
        return {"name": s.display_name or s.id, "tooltip": s.tooltip}

    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": {s.id: slot(s) for s in schema.inputs or []},
        "outputs": {str(i): slot(s) for i, s in enumerate(schema.outputs or [])},
    }


def sayings(tree, path: str = "") -> dict[str, str]:
    """A tree of strings, flat: {"AAI_EncodeSound.inputs.audio.tooltip": ...}."""
    if isinstance(tree, str):
        return {path: tree}
    return {
        k: v for key, branch in tree.items() for k, v in sayings(branch, f"{path}.{key}".strip(".")).items()
    }


def read(language: str, name: str) -> dict:
    return json.loads((FOLDER / language / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def english(pack) -> dict:
    return {i: spoken(node) for i, node in sorted(pack.nodes.items())}


def test_english_is_what_the_nodes_say(english, pytestconfig):
    file = FOLDER / "en" / "nodeDefs.json"
    if pytestconfig.getoption("--write"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            json.dumps(english, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
        )
    assert read("en", "nodeDefs") == english, "run this test with --write and commit locales/en"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_is_told_whole(english, language):
    wanted, translated = sayings(english), sayings(read(language, "nodeDefs"))
    assert sorted(set(wanted) - set(translated)) == [], "missing"
    assert sorted(set(translated) - set(wanted)) == [], "of nodes, inputs or outputs that do not exist"
    assert [path for path, text in translated.items() if not text.strip() or MEANT_BY_VUE.search(text)] == []


@pytest.mark.parametrize("language", [x for x in LANGUAGES if x != "en"])
def test_every_sentence_is_translated(english, language):
    wanted, translated = sayings(english), sayings(read(language, "nodeDefs"))
    sentences = [path for path in wanted if path.endswith((".tooltip", ".description"))]
    assert [path for path in sentences if translated[path] == wanted[path]] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_category_and_our_types_have_names(pack, language):
    schemas = [node.GET_SCHEMA() for node in pack.nodes.values()]
    slots = [slot for s in schemas for slot in [*(s.inputs or []), *(s.outputs or [])]]
    types = pack.part("nodes.types")
    ours = {t.io_type for t in vars(types).values() if hasattr(t, "io_type")}
    assert ours <= {slot.io_type for slot in slots}
    main = read(language, "main")
    assert set(main) - {"views"} == {"nodeCategories", "dataTypes"}
    assert set(main["nodeCategories"]) == {s.category for s in schemas}
    assert set(main["dataTypes"]) == ours


@pytest.mark.parametrize("language", [x for x in LANGUAGES if x != "en"])
def test_the_nodes_views_are_told_whole(language):
    """English stands in web/ itself."""
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "web").glob("*.js"))
    wanted, translated = set(SAID_BY_A_VIEW.findall(code)), read(language, "main")["views"]
    assert len(wanted) > 40
    assert sorted(wanted - set(translated)) == [], "missing"
    assert sorted(set(translated) - wanted) == [], "said by no view"
    # Names that are the same in both, as an LUFS is, are short.
    assert [k for k, v in translated.items() if not v.strip() or v == k and len(k) > 10] == []
    assert [k for k, v in translated.items() if set(VALUE.findall(k)) != set(VALUE.findall(v))] == []
    assert [v for v in translated.values() if "@" in v or "|" in v] == []


def test_no_other_language_lies_there():
    assert sorted(p.name for p in FOLDER.iterdir()) == LANGUAGES
