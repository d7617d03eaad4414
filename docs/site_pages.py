"""Hooks of mkdocs: pages of the repository's root become pages of the site, and links to files that
are no pages lead to the repository. So the pages stay as they are, and read well in both places.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
SOURCE = "https://github.com/dynamo-ring/dynamo-ring"
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "threat-model.md",
    "examples/README.md": "examples.md",
}
"""Pages outside docs/, and their names in the site."""
_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)


def on_config(config: Any) -> Any:
    """Puts every decision into the navigation, so that a new one needs no line there."""
    decisions = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    for part in config.nav:
        for name, pages in part.items():
            if name == "Understand" and not any(isinstance(p, str) for p in pages):
                pages += [f"decisions/{path.name}" for path in decisions]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages of the root."""
    for path, name in PAGES.items():
        text = (ROOT / path).read_text()
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turns links between files of the repository into links of the site."""
    here = next((p for p, name in PAGES.items() if name == page.file.src_uri), None)
    folder = os.path.dirname(here if here is not None else f"docs/{page.file.src_uri}")

    def led(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        place = os.path.normpath(os.path.join(folder, target))
        name = PAGES.get(place, place.removeprefix("docs/"))
        if place in PAGES or (place.startswith("docs/") and files.get_file_from_path(name)):
            to = os.path.relpath(name, os.path.dirname(page.file.src_uri) or ".")
            return f"{words}({to}{anchor})"
        if not (ROOT / place).exists():
            return found[0]  # mkdocs then tells that it leads nowhere
        kind = "tree" if (ROOT / place).is_dir() else "blob"
        return f"{words}({SOURCE}/{kind}/main/{place}{anchor})"

    parts = _FENCE.split(markdown)
    return "".join(part if at % 2 else _LINK.sub(led, part) for at, part in enumerate(parts))
