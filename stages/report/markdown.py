"""The little Markdown that the page is made of."""

from collections.abc import Sequence


def table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def document(parts: Sequence[str]) -> str:
    """Parts with an empty line between them, but for neighbours that are points of a list."""
    lines = []
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        lines.append(part)
        if not (part.startswith("- ") and following.startswith("- ")):
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"
