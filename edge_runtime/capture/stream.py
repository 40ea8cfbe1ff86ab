"""A stream's sound through ffmpeg: a process of its own that decodes it into a WAV on a pipe, and says why it ended.

The address, which may hold a password, goes to ffmpeg through its standard input and not through its command line,
which everybody on the machine can read: as a script of the demuxer `concat` with one entry. An ffmpeg before 5.0
knows no options in such scripts; it gets the address on its command line.
"""

from __future__ import annotations

import contextlib
import re
import resource
import shutil
import subprocess
import threading
from urllib.parse import urlsplit

from edge_runtime.capture.address import PROTOCOLS, without_secrets
from edge_runtime.errors import InputError
from edge_runtime.system.process import die_with_parent

_MISSING = "streams need ffmpeg, which is not installed: `sudo apt install ffmpeg`"
_MOST_MEMORY = 512 << 20
_PIPE_BYTES = 1 << 20
"""What the kernel holds of the sound while we are held up, where it grants so much."""
_ERROR_BYTES = 4096
_END_SECONDS = 1.0
_ABOUT = re.compile(r"^(?:\[[^]]*\] *|pipe:0: *)")
_NO_REASON = ("Impossible to open", "Stream ends prematurely", "Input/output error")
"""In lines that come beside one with the reason, or without any."""
_OPTIONS = {"analyzeduration": "1000000"}
"""Of every input. A second is enough to find the sound's format, and is how late the sound is from then on."""
_CAMERA_OPTIONS = {"rtsp_transport": "tcp", "allowed_media_types": "audio"}
"""Of RTSP: packets that get lost are sent again, and no video is sent at all."""


class Ffmpeg:
    """One such process. `handle` is the end of its pipe from which a WAV comes."""

    def __init__(self, url: str) -> None:
        """Starts it for a URL that `address.refused` has nothing against.

        To be called from the thread that lives as long as the process shall: the kernel ends it with that. Raises
        InputError when there is no ffmpeg, or the machine cannot start it.
        """
        self._url = url
        self._process = self._start(scripted=True)

    @property
    def handle(self) -> int:
        """The file descriptor to read."""
        assert self._process.stdout
        return self._process.stdout.fileno()

    def again(self) -> bool:
        """After an end without sound: whether it was the ffmpeg of before 5.0, which has been started again."""
        self._end()
        if "unknown keyword 'option'" not in self._said.decode(errors="replace"):
            return False
        self._process = self._start(scripted=False)
        return True

    def reason(self) -> str:
        """Why it ended, in the last line that it said; to be called after its sound has ended."""
        self._end()
        said = self._said.decode(errors="replace").splitlines()
        lines = [without_secrets(_ABOUT.sub("", line).strip(), self._url) for line in said]
        lines = [line for line in lines if line and not any(part in line for part in _NO_REASON)]
        if any("not contain any stream" in line or "matches no streams" in line for line in lines):
            return "there is no sound in it"
        return lines[-1] if lines else "it has ended"

    def _start(self, scripted: bool) -> subprocess.Popen[bytes]:
        program = shutil.which("ffmpeg")
        if program is None:
            raise InputError(_MISSING)
        scheme = urlsplit(self._url).scheme
        options = _OPTIONS | (_CAMERA_OPTIONS if scheme in ("rtsp", "rtsps") else {})
        if scripted:
            opened = ["-f", "concat", "-safe", "0", "-protocol_whitelist", f"pipe,{PROTOCOLS[scheme]}", "-i", "pipe:0"]
        else:
            opened = ["-nostdin", *(word for name, value in options.items() for word in (f"-{name}", value))]
            opened += ["-protocol_whitelist", PROTOCOLS[scheme], "-i", self._url]
        command = [program, "-hide_banner", "-nostats", "-loglevel", "error", "-threads", "1", *opened]
        command += ["-vn", "-sn", "-dn", "-map_metadata", "-1", "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pipesize=_PIPE_BYTES,
                process_group=0,
                preexec_fn=_bounded,
            )
        except (OSError, subprocess.SubprocessError) as reason:
            raise InputError(f"ffmpeg cannot be started: {getattr(reason, 'strerror', None) or reason}") from None
        assert process.stdin and process.stderr
        with contextlib.suppress(OSError):
            process.stdin.write(_script(self._url, options) if scripted else b"")
        process.stdin.close()
        self._said = bytearray()
        self._listener = threading.Thread(target=self._listen, args=(process.stderr.fileno(),), daemon=True)
        self._listener.start()
        return process

    def _listen(self, handle: int) -> None:
        """Keeps the end of what it says, however much that is."""
        with open(handle, "rb", buffering=0, closefd=False) as errors:
            while data := errors.read(_ERROR_BYTES):
                self._said = (self._said + data)[-_ERROR_BYTES:]

    def _end(self) -> None:
        """Waits for a process whose sound has ended, and ends one that does not go."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._process.kill()
        self._listener.join(_END_SECONDS)


def _script(url: str, options: dict[str, str]) -> bytes:
    quoted = url.replace("'", r"'\''")
    lines = ["ffconcat version 1.0", f"file '{quoted}'", *(f"option {name} {value}" for name, value in options.items())]
    return ("\n".join(lines) + "\n").encode()


def _bounded() -> None:
    """In the process, before it becomes ffmpeg."""
    die_with_parent()
    # The data of a process that a service unit keeps from setting limits is bounded by the unit.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
