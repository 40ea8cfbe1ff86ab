"""Text-to-speech programs of the classical kinds: formant, diphone, unit selection and HMM synthesis.

Each is a command that writes a WAV file. Debian package names stand beside each engine.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import soundfile

from training.synthesize.engine import EngineFailed, Generator, Need, Speech, SpeechEngine, Voice

TIMEOUT = 60.0
"""Seconds after which a program counts as hung."""


@dataclass(frozen=True)
class ProgramCall:
    """A command line, and the text for its standard input in the encoding the voice reads."""

    command: list[str]
    text: str
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Program:
    """A speech engine that is a command. `order(text, voice, generator, wav)` gives its command line."""

    name: str
    licence: str
    minutes: float
    need: Need
    find_voices: Callable[[], list[Voice]]
    order: Callable[[str, Voice, Generator, str], ProgramCall]

    def missing(self) -> str | None:
        return self.need.missing() or (None if self.voices() else f"no voices; install with: {self.need.install}")

    def voices(self) -> list[Voice]:
        return self.find_voices()

    def say(self, text: str, voice: Voice, generator: Generator) -> Speech:
        with tempfile.TemporaryDirectory(prefix="speak-") as folder:
            wav = str(Path(folder) / "out.wav")
            order = self.order(text, voice, generator, wav)
            data = order.text.encode(order.encoding, "replace")
            try:
                subprocess.run(order.command, input=data, capture_output=True, timeout=TIMEOUT, check=True)
                wave, rate = soundfile.read(wav, dtype="float64", always_2d=True)
            except (OSError, subprocess.SubprocessError, soundfile.LibsndfileError) as error:
                raise EngineFailed(f"{self.name}, voice {voice.name}: {error}") from None
        return Speech(wave[:, 0], rate)


def answer(command: list[str]) -> str:
    """What a command prints, nothing where it fails."""
    try:
        return subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=True, text=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def number(generator: Generator, low: float, high: float) -> str:
    return f"{generator.uniform(low, high):.3f}"


def flite_voices() -> list[Voice]:
    names = set(answer(["flite", "-lv"]).partition(":")[2].split()) - {"awb_time"}
    return [Voice(name, "en") for name in sorted(names)]


def flite(text: str, voice: Voice, generator: Generator, wav: str) -> ProgramCall:
    settings = [
        f"duration_stretch={number(generator, 0.85, 1.25)}",
        f"int_f0_target_mean={number(generator, 80, 200)}",
    ]
    flags = [part for setting in settings for part in ("--setf", setting)]
    return ProgramCall(["flite", "-voice", voice.name, *flags, "-t", text, "-o", wav], "")


ESPEAK = {
    "en": ("en-us", "en-gb", "en-gb-scotland", "en-029"),
    "de": ("de",),
    "fr": ("fr-fr",),
    "es": ("es", "es-419"),
    "it": ("it",),
    "pt": ("pt", "pt-br"),
    "nl": ("nl",),
    "pl": ("pl",),
    "sv": ("sv",),
    "cs": ("cs",),
    "fi": ("fi",),
    "ca": ("ca",),
    "ru": ("ru",),
    "hi": ("hi",),
    "zh": ("cmn",),
}
VARIANTS = (
    "",
    "+m1",
    "+m3",
    "+m7",
    "+f1",
    "+f2",
    "+f4",
    "+klatt",
    "+klatt2",
    "+klatt4",
    "+croak",
    "+whisper",
)
"""Of espeak-ng: other larynx and tract settings; klatt is another formant synthesizer."""


def espeak_voices() -> list[Voice]:
    return [Voice(name + variant, key) for key, names in ESPEAK.items() for name in names for variant in VARIANTS]


def espeak(text: str, voice: Voice, generator: Generator, wav: str) -> ProgramCall:
    flags = ["-s", str(generator.integers(130, 200)), "-p", str(generator.integers(25, 75)), "-w", wav]
    return ProgramCall(["espeak-ng", "-v", voice.name, *flags, "--stdin"], text)


MBROLA = {
    "us": "en",
    "en": "en",
    "de": "de",
    "fr": "fr",
    "es": "es",
    "it": "it",
    "nl": "nl",
    "sw": "sv",
    "pl": "pl",
    "br": "pt",
}


def mbrola_voices() -> list[Voice]:
    folders = sorted(path.name for path in Path("/usr/share/mbrola").glob("*") if path.name[:2] in MBROLA)
    return [Voice(f"mb-{name}", MBROLA[name[:2]]) for name in folders]


def rhvoice_voices() -> list[Voice]:
    # Not evgeniy-eng and lyubov: their licence (CC BY-NC-ND) forbids commercial use.
    languages = {"alan": "en", "bdl": "en", "clb": "en", "slt": "en"}
    languages |= {
        "Leticia-F123": "pt",
        "magda": "pl",
        "natan": "pl",
        "anna": "ru",
        "aleksandr": "ru",
        "elena": "ru",
    }
    folders = sorted(path.name for path in Path("/usr/share/RHVoice/voices").glob("*"))
    return [Voice(name, languages[name]) for name in folders if name in languages]


def rhvoice(text: str, voice: Voice, generator: Generator, wav: str) -> ProgramCall:
    flags = ["-r", str(generator.integers(80, 125)), "-t", str(generator.integers(85, 118))]
    return ProgramCall(["RHVoice-test", "-p", voice.name, *flags, "-o", wav], text)


FESTIVAL = {
    "cmu_us_slt_arctic_hts": ("en", "utf-8"),
    "kal_diphone": ("en", "utf-8"),
    "ked_diphone": ("en", "utf-8"),
    "upc_ca_ona_hts": ("ca", "latin-1"),
    "czech_dita": ("cs", "iso-8859-2"),
    "czech_machac": ("cs", "iso-8859-2"),
    "hy_fi_mv_diphone": ("fi", "latin-1"),
    "suo_fi_lj_diphone": ("fi", "latin-1"),
    "hindi_NSK_diphone": ("hi", "utf-8"),
    "lp_diphone": ("it", "latin-1"),
    "pc_diphone": ("it", "latin-1"),
    "msu_ru_nsh_clunits": ("ru", "utf-8"),
}
"""Language and text encoding of each voice of festival."""


def festival_voices() -> list[Voice]:
    folders = sorted(path.name for path in Path("/usr/share/festival/voices").glob("*/*"))
    return [Voice(name, FESTIVAL[name][0]) for name in folders if name in FESTIVAL]


def festival(text: str, voice: Voice, generator: Generator, wav: str) -> ProgramCall:
    pace = f"(Parameter.set 'Duration_Stretch {number(generator, 0.85, 1.25)})"
    command = ["text2wave", "-o", wav, "-eval", f"(begin (voice_{voice.name}) {pace})"]
    return ProgramCall(command, text, FESTIVAL[voice.name][1])


PICO = {"en-US": "en", "en-GB": "en", "de-DE": "de", "es-ES": "es", "fr-FR": "fr", "it-IT": "it"}


def pico_voices() -> list[Voice]:
    return [Voice(name, language) for name, language in PICO.items()]


def pico(text: str, voice: Voice, generator: Generator, wav: str) -> ProgramCall:
    pace, pitch = generator.integers(80, 126), generator.integers(80, 126)
    marked = f"<speed level='{pace}'><pitch level='{pitch}'>{text}</pitch></speed>"
    return ProgramCall(["pico2wave", "-l", voice.name, "-w", wav, marked], "")


JTALK_WORDS = Path("/var/lib/mecab/dic/open-jtalk/naist-jdic")


def jtalk_voices() -> list[Voice]:
    if not JTALK_WORDS.is_dir():
        return []
    return [Voice(str(path), "ja") for path in sorted(Path("/usr/share/hts-voice").glob("*/*.htsvoice"))]


def jtalk(text: str, voice: Voice, generator: Generator, wav: str) -> ProgramCall:
    flags = [
        "-r",
        number(generator, 0.85, 1.25),
        "-fm",
        number(generator, -4, 6),
        "-a",
        number(generator, 0.48, 0.6),
    ]
    return ProgramCall(["open_jtalk", "-x", str(JTALK_WORDS), "-m", voice.name, *flags, "-ow", wav], text)


def apt(packages: str, *programs: str) -> Need:
    return Need(f"apt-get install {packages}", programs=programs)


ENGINES: list[SpeechEngine] = [
    Program("flite", "BSD-like (flite, CMU voices)", 5, apt("flite", "flite"), flite_voices, flite),
    Program("espeak-ng", "GPL-3.0-or-later", 6, apt("espeak-ng", "espeak-ng"), espeak_voices, espeak),
    Program(
        "rhvoice",
        "LGPL-2.1-or-later; voices free",
        5,
        apt("rhvoice rhvoice-english (Debian contrib, non-free)", "RHVoice-test"),
        rhvoice_voices,
        rhvoice,
    ),
    Program(
        "festival",
        "BSD-like engine; voices free for any use or GPL",
        6,
        apt("festival festvox-us-slt-hts festvox-kallpc16k festvox-kdlpc16k", "text2wave"),
        festival_voices,
        festival,
    ),
    Program(
        "open-jtalk",
        "BSD; voice CC-BY-3.0 (Nitech)",
        4,
        apt("open-jtalk open-jtalk-mecab-naist-jdic hts-voice-nitech-jp-atr503-m001 (non-free)", "open_jtalk"),
        jtalk_voices,
        jtalk,
    ),
    Program(
        "pico",
        "Apache-2.0 (SVOX Pico; Debian non-free for its compiled voices)",
        4,
        apt("libttspico-utils (non-free)", "pico2wave"),
        pico_voices,
        pico,
    ),
    Program(
        "mbrola",
        "AGPL-3.0 program; voices free for non-commercial use",
        0,  # so only when asked for: a model that was trained on them could not be used freely
        apt("espeak-ng mbrola mbrola-us1 mbrola-en1 (non-free)", "espeak-ng", "mbrola"),
        mbrola_voices,
        espeak,
    ),
]
