"""Demo pages for tests: real repositories, made by git, and lists of what they hold."""

from __future__ import annotations

import csv
import hashlib
import subprocess
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy import signal as dsp

FIELDS = ("path", "ref", "label", "system", "kind", "year", "language", "speaker", "licence", "sha256", "use")
PAGE, OTHER = "some+page.github.io", "other+demo"


def spoken(seed: int, seconds: float = 2.0, rate: int = 24_000) -> NDArray[np.float32]:
    """Noise whose level and colour move as those of speech do, and with each seed in another way."""
    generator = np.random.default_rng(seed)
    samples = np.zeros(round(seconds * rate))
    for low in (150, 400, 1_000, 2_400, 5_000):
        band = dsp.butter(2, (low, low * 2), "bandpass", fs=rate, output="sos")
        course = np.exp(generator.normal(0, 1.5, max(4, round(seconds * 6))))
        envelope = np.interp(np.linspace(0, len(course) - 1, len(samples)), np.arange(len(course)), course)
        samples += dsp.sosfilt(band, generator.standard_normal(len(samples))) * envelope
    return (0.3 * samples / np.abs(samples).max()).astype(np.float32)


def sound(folder: Path, name: str, samples: NDArray[np.float32], rate: int = 24_000) -> bytes:
    """The bytes of a file of the kind that its name says."""
    path = folder / f"making{Path(name).suffix}"
    if path.suffix == ".m4a":
        soundfile.write(folder / "making.wav", samples, rate)
        command = ["ffmpeg", "-y", "-v", "error", "-i", str(folder / "making.wav"), "-c:a", "aac", "-b:a", "96k"]
        subprocess.run([*command, str(path)], check=True, stdin=subprocess.DEVNULL)
    else:
        soundfile.write(path, samples, rate)
    return path.read_bytes()


def repository(folder: Path, files: dict[str, bytes], *, bare: bool = False) -> None:
    """A repository with `files` in one commit; a bare one has no work tree."""
    work = folder.with_name(f"{folder.name}-work") if bare else folder
    for name, content in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(content)
    author = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "init.defaultBranch=main")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "clips")):
        subprocess.run(["git", *author, *command], cwd=work, check=True, capture_output=True)
    if bare:
        subprocess.run(["git", "clone", "-q", "--bare", work, folder], check=True, capture_output=True)


def row(page: str, name: str, label: str, content: bytes | None = None, **more: str) -> dict[str, str]:
    human = label == "bonafide"
    facts = {"system": "-" if human else "VoiceMaker", "kind": "human" if human else "tts", "year": "2024"}
    facts |= {"path": f"{page}/{name}", "ref": "HEAD", "label": label, "language": "en", "speaker": "unknown"}
    digest = hashlib.sha256(content).hexdigest() if content is not None else ""
    return facts | {"licence": "none stated", "sha256": digest, "use": "train"} | more


def write_list(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pages(tmp_path: Path, *more: str, out: str = "out") -> list[str]:
    clones, into, listing = tmp_path / "clones", tmp_path / out, tmp_path / "list.csv"
    return [str(clones), "-o", str(into), "--list", str(listing), "--json", "--jobs", "1", *more]


def one_page(tmp_path: Path, contents: dict[str, tuple[str, bytes]], **more: str) -> None:
    """A clone of PAGE with files of a label each, and the list of them."""
    files = {name: content for name, (_, content) in contents.items()}
    repository(tmp_path / "clones" / PAGE, files)
    rows = [row(PAGE, name, label, content, **more) for name, (label, content) in contents.items()]
    write_list(tmp_path / "list.csv", rows)
