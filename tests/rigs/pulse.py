"""A microphone `hw:1` that PulseAudio plays: 16 kHz mono, bit-exact, paced by a FIFO."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from .feed import PacedFeed

_ALSA = """\
pcm.!hw {
  @args [ CARD DEV SUBDEV ]
  @args.CARD { type string default "0" }
  @args.DEV { type string default "0" }
  @args.SUBDEV { type string default "0" }
  type pulse
  device fakemic
}
pcm."hw:1" { type pulse device fakemic }
"""
_PULSE = """\
load-module module-native-protocol-unix
load-module module-pipe-source {source}
set-default-source fakemic
"""
_SOURCE = "source_name={name} file={fifo} format=s16le rate={rate} channels={channels}"


class PulseMicrophone:
    """Inside the context programs started with `environment` find the microphone; `feed` is what it hears.

    With two `channels` the feed's samples are left and right in turn.
    """

    def __init__(self, rate: int = 16000, channels: int = 1) -> None:
        self.rate = rate
        self.channels = channels
        self._home = Path(tempfile.mkdtemp(prefix="mic"))  # short: a socket's path has 108 bytes at most
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PULSE_", "DBUS_"))},
            "HOME": str(self._home),
            "XDG_RUNTIME_DIR": str(self._home / "run"),
        }
        self.feed: PacedFeed
        self.others: dict[str, PacedFeed] = {}
        """The feeds of further sources, by their names."""
        self._server: subprocess.Popen[bytes]

    def __enter__(self) -> PulseMicrophone:
        (self._home / "run").mkdir(mode=0o700)
        (self._home / ".asoundrc").write_text(_ALSA)
        (self._home / "fake.pa").write_text(_PULSE.format(source=self._source("fakemic")))
        (self._home / ".config/pulse").mkdir(parents=True)
        (self._home / ".config/pulse/client.conf").write_text("autospawn = no\n")
        self._start()
        self.feed = PacedFeed(self._fifo("fakemic"), self.rate * self.channels)
        return self

    def kill(self) -> None:
        """Pulls the plug."""
        self._server.kill()
        self._server.wait()

    def freeze(self) -> None:
        """The server hangs: it is there, and answers nothing."""
        self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on, after `freeze`."""
        self.feed.reopen()  # first: a server that wakes before would read two seconds of old sound
        self._server.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Plugs it in again, after `kill`."""
        self._start()
        self.feed.reopen()

    def add_source(self, name: str) -> None:
        """Another source beside `fakemic`, or one again that was removed."""
        self._pactl("load-module", "module-pipe-source", *self._source(name).split())
        if name == "fakemic":
            self.feed.reopen()
        else:
            self.others[name] = PacedFeed(self._fifo(name), self.rate * self.channels, pipe_bytes=4096)

    def remove_source(self, name: str) -> None:
        """A source goes while the server runs: PulseAudio moves whoever listens to it to another one."""
        modules = self._pactl("list", "short", "modules").splitlines()
        self._pactl("unload-module", *(line.split()[0] for line in modules if f"source_name={name} " in line))

    def sources(self) -> list[str]:
        """The names of the sources that there are; none when no server answers."""
        listed = subprocess.run(
            ["pactl", "list", "short", "sources"], env=self.environment, capture_output=True, text=True
        )
        return [line.split()[1] for line in listed.stdout.splitlines()]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for feed in (self.feed, *self.others.values()):
            feed.close()
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def _start(self) -> None:
        self._fifo("fakemic").unlink(missing_ok=True)  # a server that was killed has left it
        command = ["pulseaudio", "-n", "-F", str(self._home / "fake.pa"), "--daemonize=no", "--exit-idle-time=-1"]
        with open(self._home / "log", "wb") as log:
            self._server = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        for _ in range(100):
            if "fakemic" in self.sources():
                return
            time.sleep(0.1)
        log_text = (self._home / "log").read_text(errors="replace")
        self.kill()
        raise RuntimeError(f"PulseAudio did not start: {log_text}")

    def _fifo(self, name: str) -> Path:
        return self._home / f"{name}.fifo"

    def _source(self, name: str) -> str:
        return _SOURCE.format(name=name, fifo=self._fifo(name), rate=self.rate, channels=self.channels)

    def _pactl(self, *arguments: str) -> str:
        answer = subprocess.run(["pactl", *arguments], env=self.environment, capture_output=True, text=True)
        if answer.returncode:
            raise RuntimeError(f"pactl {' '.join(arguments)}: {answer.stderr}")
        return answer.stdout
