"""What wheels say of themselves: their metadata, and the text of their licences."""

from __future__ import annotations

import email
import email.message
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OURS = "edge-detect"
LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice)", re.IGNORECASE)
LARGE_NOTICES = "ThirdPartyNotices.txt"  # ONNX Runtime's; stays where it is


def distributions(target: Path) -> dict[str, email.message.Message]:
    """The metadata of what was installed, by name."""
    found = [email.message_from_bytes(path.read_bytes()) for path in sorted(target.glob("*.dist-info/METADATA"))]
    return {re.sub(r"[-_.]+", "-", about["Name"]).lower(): about for about in found}


def copyright_of(target: Path, installed: Path) -> str:
    """The copyright file: ours, and the licences of all that is bundled in `target`, word by word.

    Their files are removed, except large ones, which lie in `installed` below the root later. Ends the build when one
    is missing.
    """
    parts = [(HERE / "copyright").read_text().rstrip()]
    rule = "=" * 78
    spoken_for: set[Path] = set()
    for name, about in distributions(target).items():
        if name == OURS:
            continue
        (record,) = [path for path in target.glob("*.dist-info/RECORD") if _name_of(path) == name]
        listed = [target / line.split(",")[0] for line in record.read_text().splitlines()]
        texts = [path for path in listed if LICENCE_FILE.search(path.name) and _is_text(path)]
        spoken_for |= set(texts)
        licence = about["License-Expression"] or (about["License"] or "see below").splitlines()[0]
        head = f"{rule}\n{about['Name']} {about['Version']}: {licence}\nfrom the Python Package Index"
        parts.append(head)
        seen = set()
        for path in sorted(texts):
            if path.name == LARGE_NOTICES:
                parts.append(f"What it contains itself: /{installed / path.relative_to(target)}")
                continue
            text = path.read_text(errors="replace").strip()
            if text not in seen:
                parts.append(f"--- {path.relative_to(target)}\n{text}")
            seen.add(text)
        if not texts and licence.startswith("Apache"):
            parts.append("The text: /usr/share/common-licenses/Apache-2.0")
        elif not texts:
            sys.exit(f"deploy/deb/build: {name} comes without the text of its licence")
    for path in spoken_for:
        if path.name != LARGE_NOTICES and path.exists():
            path.unlink()
    return "\n\n".join(parts) + "\n"


def _name_of(record: Path) -> str:
    return re.sub(r"[-_.]+", "-", record.parent.name.split("-")[0]).lower()


def _is_text(path: Path) -> bool:
    return path.suffix not in (".py", ".so") and path.is_file()
