"""Every node has a page of help: what, inputs, outputs, one picture, what goes wrong."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parents[2] / "web" / "docs"
PICTURE = re.compile(r"!\[([^\]]+)\]\((assets/[\w.-]+)\)")


def pages(pack) -> dict[str, str]:
    return {i: (FOLDER / f"{i}.md").read_text(encoding="utf-8") for i in pack.nodes}


def test_every_node_has_a_page_and_every_page_a_node(pack):
    assert {p.stem for p in FOLDER.glob("*.md")} == set(pages(pack))


def test_a_page_tells_of_every_input_and_output_and_of_no_other(pack):
    for node_id, page in pages(pack).items():
        schema = pack.nodes[node_id].GET_SCHEMA()
        assert page.startswith(f"# {schema.display_name}\n"), node_id
        for title, slots in (
            ("Inputs", [s.id for s in schema.inputs or []]),
            ("Outputs", [s.display_name or s.id for s in schema.outputs or []]),
        ):
            part = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
            listed = re.findall(r"^\| `([^`]+)` \|", part[1], re.M) if part else []
            assert sorted(listed) == sorted(slots), f"{node_id}, {title}"
        assert "\n## When something goes wrong\n" in page, node_id


def test_what_a_page_quotes_is_what_the_code_says(pack):
    root = FOLDER.parents[1]
    code = " ".join(p.read_text(encoding="utf-8") for n in ("aai", "nodes") for p in (root / n).rglob("*.py"))
    # Sentences are broken over lines, and hold values.
    code = re.sub(r'"\s*f?"', "", code)
    known = re.sub(r"\{[^{}]*\}", "…", code)
    for node_id, page in pages(pack).items():
        for quote in re.findall(r'\*"(.+?)"\*', page):
            for part in re.split(r"\.\.\.|`<`|\d+", quote.replace("`<...>`", "...").replace("\\*", "*")):
                assert part.strip() in known, f"{node_id}: {quote}"


def test_every_page_shows_a_picture_and_the_pictures_are_small(pack):
    shown = set()
    for node_id, page in pages(pack).items():
        pictures = PICTURE.findall(page)
        assert pictures, node_id
        shown |= {file for _, file in pictures}
    kept = {f"assets/{p.name}" for p in (FOLDER / "assets").iterdir()}
    assert kept == shown
    sizes = {file: (FOLDER / file).stat().st_size for file in kept}
    assert max(sizes.values()) < 60_000 and sum(sizes.values()) < 1_500_000, sizes
    for file in kept:
        Image.open(FOLDER / file).verify()
