"""Tables in plain text."""

from __future__ import annotations


def aligned(rows: list[list]) -> str:
    """Rows in columns, the first to the left."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for first, *others in cells:
        lines.append("  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:]))]))
    return "\n".join(lines)
