"""Lossy codecs, there and back in memory: by libsndfile, and where PyAV is installed by its FFmpeg.

All are made to cost a few milliseconds for two seconds of speech, and all keep the sound where it was in time.
Of what PyAV has, SBC, G.723.1 and libsndfile's Opus are left out, which take 10 to 40 ms. It has no encoder of AMR-WB.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from typing import cast

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Codec = Callable[[Samples, np.random.Generator, int], Samples]

HAS_AV = find_spec("av") is not None
_HEADROOM = 0.9


class CodecMissing(Exception):
    """The installed library cannot code this."""


def mp3(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    return _by_soundfile(samples, rate, 16000, "MP3", "MPEG_LAYER_III", rng.uniform(0.1, 0.95))


def vorbis(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    return _by_soundfile(samples, rate, 16000, "OGG", "VORBIS", rng.uniform(0.1, 0.95))


def mu_law(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """G.711 of America and Japan, 64 kbit/s at 8 kHz."""
    return _by_soundfile(samples, rate, 8000, "WAV", "ULAW")


def a_law(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """G.711 of the rest of the world."""
    return _by_soundfile(samples, rate, 8000, "WAV", "ALAW")


def gsm(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """GSM 06.10 full rate, 13 kbit/s at 8 kHz."""
    return _by_soundfile(samples, rate, 8000, "WAV", "GSM610")


def adpcm(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """IMA ADPCM, 4 bits a sample, as dictation machines and toys have it."""
    return _by_soundfile(samples, rate, int(rng.choice([8000, 16000])), "WAV", "IMA_ADPCM")


def aac(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """AAC-LC at 10 to 48 kbit/s."""
    bit_rate = int(np.exp(rng.uniform(np.log(10_000), np.log(48_000))))
    return _by_av(samples, rate, 16000, "aac", "fltp", bit_rate, {"aac_coder": "fast"}, delay=1024)


def g722(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """G.722, the wide band of office telephones, 64 kbit/s."""
    return _by_av(samples, rate, 16000, "g722", "s16", delay=22)


def opus(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """Opus at 6 to 32 kbit/s, as voice messengers and conferences send it."""
    bit_rate = int(np.exp(rng.uniform(np.log(6_000), np.log(32_000))))
    application = ("voip", "voip", "audio", "lowdelay")[rng.integers(4)]
    frame_ms = 20 if application == "lowdelay" else (20, 60)[rng.integers(2)]
    options = {"application": application, "frame_duration": str(frame_ms), "compression_level": "0"}
    return _by_av(samples, rate, 16000, "libopus", "s16", bit_rate, options)


def amr(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """AMR narrow band, the voice of mobile telephones, in any of its eight rates."""
    bit_rate = int(rng.choice([4750, 5150, 5900, 6700, 7400, 7950, 10200, 12200]))
    return _by_av(samples, rate, 8000, "libopencore_amrnb", "s16", bit_rate, delay=39)


BY_SOUNDFILE: tuple[Codec, ...] = (mp3, mp3, vorbis, mu_law, a_law, gsm, adpcm)
BY_AV: tuple[Codec, ...] = (opus, opus, opus, aac, aac, aac, g722, amr)
CODECS: tuple[Codec, ...] = BY_SOUNDFILE + (BY_AV if HAS_AV else ())
"""What `codec` draws from, each as often as it stands here."""


def codec(samples: Samples, rng: np.random.Generator, rate: int, among: tuple[Codec, ...] = CODECS) -> Samples:
    """Through a lossy codec and back, drawn from those `among`; unchanged where the library lacks it."""
    try:
        return among[rng.integers(len(among))](samples, rng, rate)
    except CodecMissing:
        return samples


def _there_and_back(
    samples: Samples, rate: int, coded_rate: int, transmit: Callable[[Samples], tuple[Samples, int]]
) -> Samples:
    """`transmit` takes samples at `coded_rate`, at most 0.9 high, and gives some at the rate that it names."""
    scale = (float(np.max(np.abs(samples))) + 1e-9) / _HEADROOM
    coded = samples / np.float32(scale)
    if coded_rate != rate:
        coded = soxr.resample(coded, rate, coded_rate, quality="MQ")
    decoded, decoded_rate = transmit(coded)
    if decoded_rate != rate:
        decoded = soxr.resample(decoded, decoded_rate, rate, quality="MQ")
    whole = np.zeros(len(samples), np.float32)
    kept = decoded[: len(samples)]
    whole[: len(kept)] = kept * np.float32(scale)
    return whole


def _by_soundfile(
    samples: Samples, rate: int, coded_rate: int, container: str, subtype: str, compression: float | None = None
) -> Samples:
    options = {} if compression is None else {"compression_level": compression}

    def transmit(coded: Samples) -> tuple[Samples, int]:
        buffer = io.BytesIO()
        try:
            soundfile.write(buffer, coded, coded_rate, format=container, subtype=subtype, **options)
            buffer.seek(0)
            return soundfile.read(buffer, dtype="float32")
        except (RuntimeError, TypeError, ValueError) as reason:
            raise CodecMissing(f"{container} {subtype}: {reason}") from None

    return _there_and_back(samples, rate, coded_rate, transmit)


def _by_av(
    samples: Samples,
    rate: int,
    coded_rate: int,
    name: str,
    layout: str,
    bit_rate: int | None = None,
    options: dict[str, str] | None = None,
    delay: int = 0,
) -> Samples:
    """`layout` is FFmpeg's sample format; `delay`, in samples at `coded_rate`, is what coder and decoder add."""
    try:
        import av
    except ImportError as reason:
        raise CodecMissing(f"{name}: {reason}") from None

    def transmit(coded: Samples) -> tuple[Samples, int]:
        encoder = cast("av.AudioCodecContext", av.CodecContext.create(name, "w"))
        encoder.sample_rate, encoder.format, encoder.layout = coded_rate, av.AudioFormat(layout), av.AudioLayout("mono")
        encoder.time_base, encoder.thread_count = Fraction(1, coded_rate), 1
        if bit_rate is not None:
            encoder.bit_rate = bit_rate
        encoder.options = options or {}
        encoder.open()
        decoder = cast("av.AudioCodecContext", av.CodecContext.create(name, "r"))
        decoder.sample_rate, decoder.layout, decoder.thread_count = coded_rate, av.AudioLayout("mono"), 1
        if encoder.extradata:
            decoder.extradata = encoder.extradata
        step = encoder.frame_size or len(coded) + delay
        padded = np.zeros(-(-(len(coded) + delay) // step) * step, np.float32)
        padded[: len(coded)] = coded
        frames = padded if layout == "fltp" else (np.clip(padded, -1, 1) * 32767).astype(np.int16)
        pieces, decoded_rate = [], coded_rate
        for number, samples_of_frame in enumerate([*frames.reshape(-1, 1, step), None]):
            frame = None
            if samples_of_frame is not None:
                frame = av.AudioFrame.from_ndarray(samples_of_frame, format=layout, layout="mono")
                frame.sample_rate, frame.pts = coded_rate, number * step
            for packet in encoder.encode(frame):
                for heard in decoder.decode(packet):
                    pieces.append(heard.to_ndarray()[0])
                    decoded_rate = heard.sample_rate
        pieces += [heard.to_ndarray()[0] for heard in decoder.decode(None)]
        decoded = np.concatenate(pieces)
        if decoded.dtype == np.int16:
            decoded = decoded.astype(np.float32) / np.float32(32768)
        return decoded[delay * decoded_rate // coded_rate :].astype(np.float32), decoded_rate

    try:
        return _there_and_back(samples, rate, coded_rate, transmit)
    except (av.error.FFmpegError, ValueError) as reason:  # UnknownCodecError is a ValueError
        raise CodecMissing(f"{name}: {reason}") from None
