"""The documents' links, and the files that they name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {part for part in path.relative_to(ROOT).parts if part.startswith(".") or part == "out"}
)
LINK = re.compile(r"\]\(([^)\s]+)\)|\bsrc=\"([^\"]+)\"")


def links(text: str) -> list[str]:
    """The relative ones, without the place within the file."""
    found = [first or second for first, second in LINK.findall(text)]
    return [link.partition("#")[0] for link in found if not re.match(r"[a-z]+:|#|/", link)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_relative_link_exists(path):
    missing = [link for link in links(path.read_text(encoding="utf-8")) if not (path.parent / link).exists()]
    assert missing == []


def test_a_link_that_leads_nowhere_is_seen():
    text = "[a](b/c.md#d) [e](https://f) [g](#h) ![i](j.png)"
    assert links(text) == ["b/c.md", "j.png"]


def test_the_methods_table_calls_each_file_by_its_name():
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    named = re.findall(r"\[([\w/.]+\.py)\]\(([\w/.]+)\)", text)
    assert len(named) > 10
    for label, target in named:
        assert target.endswith(f"/{label}"), (label, target)


def test_readme_names_every_page_and_every_template():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert pages <= set(links(text))
    shipped = {
        p.stem for folder in ("example_workflows", "subgraphs") for p in (ROOT / folder).glob("*.json")
    }
    assert shipped == set(re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE))


def test_nodes_page_names_every_node():
    text = (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \|", text, re.MULTILINE)
    told = {name.removesuffix(" (AAI)") for row in rows for name in row.split(", ")}
    saved = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    shown = {node["display_name"].removesuffix(" (AAI)") for node in saved.values()}
    assert shown - told == set()


def test_contributings_tree_is_the_repositorys():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = re.search(r"## The tree\n\n(.*?)\n\n##", text, re.DOTALL).group(1)
    named, above = set(), ""
    for indent, name in re.findall(r"^    ( *)([\w./]+) ", tree, re.MULTILINE):
        above = above if indent else name
        named.add(above + name if indent else name)
    assert [name for name in named if not (ROOT / name).exists()] == []
    folders = {f"aai/{p.name}/" for p in (ROOT / "aai").iterdir() if (p / "__init__.py").is_file()}
    assert folders <= named
