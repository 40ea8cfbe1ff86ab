"""`python -m training.gather DEBS -o DIR`: human speech out of packages of Debian, whose licences allow to train on it.

Games and telephone exchanges come with what people said for them: lines that were acted, shouted and sung, prompts that
were read, in many languages, by voices that no corpus of speech has. Everything here is in Debian's main archive, so
free to use, change and pass on; each clip's row says under which licence.

    python -m training.gather --packages | (mkdir debs && cd debs && xargs apt-get download)
    python -m training.gather debs -o human
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.errors import InputError, OutputError, UsageError
from training.synthesize.clips import LIST, RATE, ClipRow, write_clip

LONGEST_SECONDS = 5
QUIET_RMS, HEADROOM = 1e-3, 0.89
ARCHIVES = (".pk3", ".wz")
QUEEN, DRASCULA = ".1c", ".ALS"
"""What ScummVM plays: all of Flight of the Amazon Queen in one file, a line of Drascula's in each."""
DRASCULA_HEADER_BYTES, DRASCULA_RATE = 32, 11_025
CODECS = {
    ".g722": "g722",
    ".gsm": "gsm",
    ".ogg": "vorbis",
    ".opus": "opus",
    ".wav": "lossless",
    ".SB": "mp3",
    DRASCULA: "pcm_u8",
}


@dataclass(frozen=True)
class Shelf:
    """Recordings of a package whose names match `pattern`: at most `most`, none shorter than `shortest_seconds`."""

    package: str
    licence: str
    pattern: str
    most: int
    shortest_seconds: float


_TEAMS = (
    "Default Classic British Mobster Pirate Russian Surfer Singer HillBilly "
    "Default_uk Default_ru Default_pl Default_es Russian_pl"
)
_FREEWARE = "free to change and pass on; the game itself may not be sold"
SHELVES = (
    Shelf("fillets-ng-data-cs", "GPL-2+", r"\.ogg$", 450, 1.5),
    Shelf("fillets-ng-data-nl", "GPL-2+", r"\.ogg$", 450, 1.5),
    Shelf("fillets-ng-data", "GPL-2+", r"/en/[^/]+\.ogg$", 150, 1.0),
    *(Shelf("hedgewars-data", "GFDL-1.3", rf"/voices/{voice}/[^/]+\.ogg$", 45, 0.7) for voice in _TEAMS.split()),
    Shelf("warzone2100-data", "GPL-2+", r"(audio/tutorial|missmesg|cmndrvoc).*\.(ogg|opus)$", 120, 1.0),
    Shelf("unknown-horizons", "CC BY-SA 3.0 or GPL-2+", r"/voice/.*\.ogg$", 60, 1.0),
    Shelf("nexuiz-data", "GPL-2+", r"sound/tutorial.*\.(ogg|wav)$", 50, 1.0),
    # The voices of beasts are human ones that were pitched down.
    Shelf("nexuiz-data", "GPL-2+", r"^(?!.*(reptilian|carni)).*/coms.*\.(ogg|wav)$", 70, 0.8),
    *(
        Shelf(f"asterisk-core-sounds-{language}-g722", "CC BY-SA 3.0", r"\.g722$", 110, 1.5)
        for language in ("en", "es", "fr", "it", "ru")
    ),
    Shelf("asterisk-prompt-es-co", "GPL-2+", r"\.gsm$", 90, 1.2),
    Shelf("asterisk-prompt-fr-armelle", "GPL-2+", r"\.gsm$", 90, 1.2),
    Shelf("drascula", f"Drascula's ({_FREEWARE})", r"/en/[^/]+\.ALS$", 350, 1.5),
    Shelf("flight-of-the-amazon-queen", f"Flight of the Amazon Queen's ({_FREEWARE})", r"\.SB$", 400, 1.5),
)


def recordings(deb: Path, wanted: re.Pattern[str]) -> dict[str, bytes]:
    """What a package holds of sound under names that match, in archives within it too (`a.pk3.d/sound/b.ogg`).

    Raises InputError for a file that is no package, UsageError without dpkg-deb.
    """
    if shutil.which("dpkg-deb") is None:
        raise UsageError("there is no dpkg-deb to open packages with: run this on Debian, or install dpkg")
    opened = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], capture_output=True, check=False)
    if opened.returncode:
        raise InputError(f"{deb} is no whole package: download it again")
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(opened.stdout)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file:
                found.update(_sounds(member.name.removeprefix("./"), file.read, wanted))
    return found


def _sounds(name: str, content: Callable[[], bytes], wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """`content` is called only where it is a sound or an archive of sounds."""
    suffix = PurePosixPath(name).suffix
    if suffix == QUEEN:
        yield from ((inner, sound) for inner, sound in _queen(name, content()) if wanted.search(inner))
    elif suffix in ARCHIVES:
        try:
            inner = zipfile.ZipFile(io.BytesIO(content()))
        except zipfile.BadZipFile:
            return
        for member in inner.namelist():
            try:
                yield from _sounds(f"{name}.d/{member}", partial(inner.read, member), wanted)
            except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError):
                continue  # damaged or encrypted: the others may be whole
    elif suffix in CODECS and wanted.search(name):
        yield name, content()


def _queen(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """What Flight of the Amazon Queen's one file holds, its table read as ScummVM's engines/queen/resource.cpp does."""
    if content[:4] != b"QTBL" or len(content) < 15:
        return
    (count,) = struct.unpack_from(">H", content, 13)
    if len(content) < 15 + 21 * count:
        return
    for file, _, start, size in struct.iter_unpack(">12sBII", content[15 : 15 + 21 * count]):
        yield f"{name}.d/{file.rstrip(bytes(1)).decode('ascii', 'replace')}", content[start : start + size]


def decode(name: str, content: bytes) -> tuple[NDArray[np.float32], int]:
    """The mean of the channels, float32 [samples], and their rate. Raises InputError for what is no sound."""
    suffix = PurePosixPath(name).suffix
    try:
        if suffix in (".g722", ".gsm"):
            import av  # of telephones' raw formats alone

            with av.open(io.BytesIO(content), "r", format=suffix[1:]) as container:
                frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
                return np.concatenate(frames).astype(np.float32) / np.float32(32768), container.streams.audio[0].rate
        if suffix == DRASCULA:
            levels = np.frombuffer(content, np.uint8)[DRASCULA_HEADER_BYTES:].astype(np.float32)
            return levels / np.float32(128) - 1, DRASCULA_RATE
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except ImportError:
        raise UsageError("telephones' recordings are decoded by PyAV: pip install av") from None
    except (OSError, ValueError, soundfile.SoundFileError) as reason:
        raise InputError(f"{name} cannot be decoded: {reason}") from None
    return samples.mean(axis=1), rate


def loudest(samples: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The `count` neighbouring samples with the most energy, or all if there are fewer."""
    if len(samples) <= count:
        return samples
    energy = np.cumsum(np.concatenate(([0], samples.astype(np.float64) ** 2)))
    start = int(np.argmax(energy[count:] - energy[:-count]))
    return samples[start : start + count]


def take(shelf: Shelf, sounds: dict[str, bytes], order: random.Random) -> Iterator[tuple[NDArray[np.float32], ClipRow]]:
    """Clips of a shelf, float32 [samples] at 16 kHz, and their rows; what is short, silent or broken is passed over."""
    names = sorted((name for name in sounds if re.search(shelf.pattern, name)), key=PurePosixPath)
    order.shuffle(names)
    left = shelf.most
    for name in names:
        if not left:
            return
        try:
            samples, rate = decode(name, sounds[name])
        except InputError:
            continue
        if len(samples) < shelf.shortest_seconds * rate:
            continue
        samples = loudest(samples, LONGEST_SECONDS * rate)
        if not (np.isfinite(samples).all() and np.sqrt(np.mean(samples**2)) >= QUIET_RMS):
            continue
        clip = soxr.resample(samples, rate, RATE) if rate != RATE else samples
        clip = clip * min(1.0, HEADROOM / np.abs(clip).max()) if np.abs(clip).max() > 0.99 else clip
        path = PurePosixPath(name)
        file = f"bonafide/deb_{hashlib.sha1(f'{shelf.package}/{name}'.encode()).hexdigest()[:12]}.flac"
        speaker = f"{shelf.package}-{path.parent.name}"
        seconds = f"{len(clip) / RATE:.3f}"
        left -= 1
        yield (
            clip,
            ClipRow(
                file,
                "bonafide",
                "-",
                speaker,
                f"deb_{shelf.package}",
                shelf.licence,
                str(rate),
                CODECS[path.suffix],
                seconds,
            ),
        )


@entry("no clips were kept")
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 usage, 3 packages, 5 output, 130 stopped."""
    command = Parser(prog="edge-detect train gather", description="Take human speech out of packages of Debian.")
    command.add_argument("debs", type=Path, nargs="?", help="folder of .deb files")
    command.add_argument("-o", "--output", type=Path, help="new folder for bonafide/ and clips.csv")
    command.add_argument("--packages", action="store_true", help="print which packages have speech, and stop")
    command.add_argument("--seed", type=int, default=1, help="which recordings, of packages with many (default: 1)")
    options = command.parse_args(argv)
    packages = list(dict.fromkeys(shelf.package for shelf in SHELVES))
    if options.packages:
        print("\n".join(packages))
        return 0
    if not options.debs or not options.output:
        raise UsageError("name the folder of .deb files, and with -o a folder to write to")
    _gather(options.debs, options.output, packages, options.seed)
    return 0


def _gather(debs: Path, output: Path, packages: Sequence[str], seed: int) -> None:
    """All clips or none: `output` takes its name when they are whole. Raises UsageError, InputError or OutputError."""
    if not debs.is_dir():
        raise InputError(f"there is no folder {debs}: make one and call `apt-get download` in it")
    there = {package: sorted(debs.glob(f"{package}_*.deb")) for package in packages}
    if not any(there.values()):
        raise InputError(f"{debs} has none of the packages that --packages names")
    for package, versions in there.items():
        if len(versions) > 1:
            raise InputError(f"{debs} has {package} in {len(versions)} versions: leave one of them")
    unfinished = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise OutputError(f"{output} is there already and not an empty folder: name another")
        unfinished.mkdir(parents=True)
        clips, seconds = _clips(there, unfinished, random.Random(seed))
        if not clips:
            raise InputError(f"the packages in {debs} hold no speech: download them again")
        unfinished.replace(output)
    except OSError as reason:
        raise OutputError(f"cannot write {output}: {reason.strerror}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(f"{clips} clips, {seconds / 60:.1f} min; wrote {output / LIST}")


def _clips(there: dict[str, list[Path]], folder: Path, order: random.Random) -> tuple[int, float]:
    """Writes all clips of the packages to `folder`; how many, and how many seconds.

    One draw goes through all of them: which clips of a large package are taken depends on those before it.
    """
    clips, seconds = 0, 0.0
    for package, found in tqdm(there.items(), desc="packages", unit="package"):
        shelves = [shelf for shelf in SHELVES if shelf.package == package]
        wanted = re.compile("|".join(f"(?:{shelf.pattern})" for shelf in shelves))
        sounds = recordings(found[0], wanted) if found else {}
        taken = 0
        for shelf in shelves:
            for samples, row in take(shelf, sounds, order):
                write_clip(folder, samples.astype(np.float64), row)
                taken, seconds = taken + 1, seconds + len(samples) / RATE
        clips += taken
        print(f"{package}: {taken} clips" if found else f"{package}: not there, left out", file=sys.stderr)
    return clips, seconds


if __name__ == "__main__":
    sys.exit(main())
