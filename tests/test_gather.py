"""Human speech out of Debian's packages: real packages, made here by dpkg-deb, with what real ones hold."""

from __future__ import annotations

import csv
import io
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from training import gather

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="Debian's dpkg-deb is not installed")
RATE = 22_050


def spoken(seconds: float, level: float = 0.1, seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (level * noise).astype(np.float32)


def sound(samples: NDArray[np.float32], form: str = "OGG") -> bytes:
    coded = io.BytesIO()
    soundfile.write(coded, samples, RATE, format=form)
    return coded.getvalue()


def g722(seconds: float) -> bytes:
    av = pytest.importorskip("av")
    coded = io.BytesIO()
    with av.open(coded, "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16000, layout="mono")
        samples = np.random.default_rng(1).integers(-3000, 3000, (1, round(16000 * seconds))).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return coded.getvalue()


def queen(files: dict[str, bytes]) -> bytes:
    """The one file of Flight of the Amazon Queen: a table of names, places and lengths, and what they name."""
    head = b"QTBLCEM10".ljust(13, b"\0") + struct.pack(">H", len(files))
    start, table = len(head) + 21 * len(files), b""
    for name, content in files.items():
        table += struct.pack(">12sBII", name.encode(), 1, start, len(content))
        start += len(content)
    return head + table + b"".join(files.values())


def package(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    root = folder / f"{name}-root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: x\n"
    )
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    subprocess.run(["dpkg-deb", "-b", str(root), str(folder / f"{name}_1_all.deb")], check=True, capture_output=True)
    shutil.rmtree(root)
    return folder / f"{name}_1_all.deb"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "clips.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_people_said_becomes_clips_that_say_their_licence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = np.concatenate((spoken(4, 0.01), spoken(5, 0.3, 1), spoken(2, 0.01)))
    package(
        tmp_path,
        "fillets-ng-data",
        {
            "usr/share/sound/elk/en/long.ogg": sound(long),
            "usr/share/sound/elk/en/line.ogg": sound(spoken(2)),
            "usr/share/sound/elk/en/short.ogg": sound(spoken(0.5)),
            "usr/share/sound/elk/en/silent.ogg": sound(np.zeros(2 * RATE, np.float32)),
            "usr/share/sound/elk/en/broken.ogg": b"OggS and no more",
            "usr/share/sound/elk/music.ogg": sound(spoken(3)),
        },
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as inner:
        inner.writestr("sound/tutorial/torn.wav", sound(spoken(1.4), "WAV"), zipfile.ZIP_DEFLATED)
        inner.writestr("sound/tutorial/welcome.wav", sound(spoken(1.5), "WAV"))
        inner.writestr("sound/player/reptilian/coms/attack.wav", sound(spoken(1.5), "WAV"))
        inner.writestr("sound/player/marine/coms/attack.ogg", sound(spoken(1.2)))
    damaged = bytearray(archive.getvalue())
    damaged[300:320] = bytes(20)  # within torn.wav
    package(tmp_path, "nexuiz-data", {"usr/data.pk3": bytes(damaged), "usr/torn.pk3": b"PK"})
    package(tmp_path, "asterisk-core-sounds-fr-g722", {"usr/share/fr/bonjour.g722": g722(2)})
    line = (127 + 50 * np.sin(np.arange(2 * 11025) / 5)).astype(np.uint8).tobytes()
    package(tmp_path, "drascula", {"usr/share/en/1.ALS": bytes([0x80] * 32) + line})
    package(tmp_path, "flight-of-the-amazon-queen", {"usr/share/queen.1c": queen({"A.SB": sound(spoken(2), "MP3")})})
    out = tmp_path / "human"
    assert gather.main([str(tmp_path), "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert "7 clips" in said.out and "hedgewars-data: not there" in said.err
    found = rows(out)
    assert sorted((row["source"], row["licence"][:12], row["source_codec"]) for row in found) == [
        ("deb_asterisk-core-sounds-fr-g722", "CC BY-SA 3.0", "g722"),
        ("deb_drascula", "Drascula's (", "pcm_u8"),
        ("deb_fillets-ng-data", "GPL-2+", "vorbis"),
        ("deb_fillets-ng-data", "GPL-2+", "vorbis"),
        ("deb_flight-of-the-amazon-queen", "Flight of th", "mp3"),
        ("deb_nexuiz-data", "GPL-2+", "lossless"),
        ("deb_nexuiz-data", "GPL-2+", "vorbis"),
    ]
    for row in found:
        clip, rate = soundfile.read(out / row["file"])
        assert rate == 16000 and clip.ndim == 1 and row["label"] == "bonafide" and row["system"] == "-"
        assert abs(len(clip) / rate - float(row["seconds"])) < 1e-3 and len(clip) <= 5 * rate
        if len(clip) == 5 * rate:
            assert np.sqrt(np.mean(clip**2)) > 0.15, "of a long recording, what is loudest"


def test_the_same_packages_give_the_same_clips(tmp_path: Path) -> None:
    files = {f"usr/en/{number}.ogg": sound(spoken(1.5, seed=number)) for number in range(4)}
    package(tmp_path, "fillets-ng-data-nl", files)
    for out in ("a", "b"):
        assert gather.main([str(tmp_path), "-o", str(tmp_path / out)]) == 0
    assert rows(tmp_path / "a") == rows(tmp_path / "b") and len(rows(tmp_path / "a")) == 4


@pytest.mark.parametrize(
    ("case", "code", "word"),
    [
        ("torn", 3, "download it again"),
        ("none", 3, "--packages"),
        ("no folder", 3, "no folder"),
        ("torn behind another", 3, "download it again"),
        ("silence", 3, "no speech"),
        ("two versions", 3, "2 versions"),
        ("there already", 5, "name another"),
        ("a file", 5, "name another"),
        ("a long name", 5, "too long"),
        ("no program", 2, "dpkg-deb"),
        ("nothing named", 2, "-o"),
    ],
)
def test_what_cannot_be_gathered_is_said_in_a_line(
    case: str,
    code: int,
    word: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    debs, out = tmp_path / "debs", tmp_path / "human"
    debs.mkdir()
    if case != "none":
        level = 0.0 if case == "silence" else 0.1
        deb = package(debs, "fillets-ng-data-cs", {"usr/x.ogg": sound(spoken(2, level))})
        if case == "two versions":
            shutil.copy(deb, debs / "fillets-ng-data-cs_2_all.deb")
        if case == "torn behind another":
            deb = package(debs, "fillets-ng-data-nl", {"usr/x.ogg": sound(spoken(2))})
        if case.startswith("torn"):
            deb.write_bytes(deb.read_bytes()[:-200])
        if case == "silence":
            package(debs, "flight-of-the-amazon-queen", {"usr/queen.1c": b"QTBL", "usr/other.1c": b"QTBL" * 5})
    if case == "there already":
        out.mkdir()
        (out / "clips.csv").write_text("file,label\n")
    if case == "a file":
        out.write_text("mine")
    if case == "a long name":
        out = tmp_path / ("x" * 300)
    before = sorted(tmp_path.rglob("*"))
    if case == "no program":
        monkeypatch.setenv("PATH", str(tmp_path))
    command = [str(tmp_path / "missing" if case == "no folder" else debs), "-o", str(out)]
    assert gather.main(command[: 1 if case == "nothing named" else 3]) == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edge-detect: ")]
    assert word in line and sorted(tmp_path.rglob("*")) == before, "nothing is written, nothing is lost"


def test_the_packages_are_named_for_apt(capsys: pytest.CaptureFixture[str]) -> None:
    assert gather.main(["--packages"]) == 0
    names = capsys.readouterr().out.split()
    assert "hedgewars-data" in names and len(names) == len(set(names))
