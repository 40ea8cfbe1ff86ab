"""A microphone `hw:1` that PulseAudio plays: 16 kHz mono, bit-exact, paced by a FIFO."""

from __future__ import annotations

import os
import shutil
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
load-module module-pipe-source source_name=fakemic file={fifo} format=s16le rate={rate} channels=1
set-default-source fakemic
"""


class PulseMicrophone:
    """Inside the context programs started with `environment` find the microphone; `feed` is what it hears."""

    def __init__(self, rate: int = 16000) -> None:
        self.rate = rate
        self._home = Path(tempfile.mkdtemp(prefix="mic"))  # short: a socket's path has 108 bytes at most
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PULSE_", "DBUS_"))},
            "HOME": str(self._home),
            "XDG_RUNTIME_DIR": str(self._home / "run"),
        }
        self.feed: PacedFeed
        self._server: subprocess.Popen[bytes]

    def __enter__(self) -> PulseMicrophone:
        fifo = self._home / "fifo"
        (self._home / "run").mkdir(mode=0o700)
        (self._home / ".asoundrc").write_text(_ALSA)
        (self._home / "fake.pa").write_text(_PULSE.format(fifo=fifo, rate=self.rate))
        with open(self._home / "log", "wb") as log:
            self._server = subprocess.Popen(
                [
                    "pulseaudio",
                    "-n",
                    "-F",
                    str(self._home / "fake.pa"),
                    "--daemonize=no",
                    "--exit-idle-time=-1",
                ],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        for _ in range(100):
            sources = subprocess.run(
                ["pactl", "list", "short", "sources"], env=self.environment, capture_output=True, text=True
            )
            if "fakemic" in sources.stdout:
                self.feed = PacedFeed(fifo, self.rate)
                return self
            time.sleep(0.1)
        log_text = (self._home / "log").read_text(errors="replace")
        self.kill()
        raise RuntimeError(f"PulseAudio did not start: {log_text}")

    def kill(self) -> None:
        """Pulls the plug."""
        self._server.kill()
        self._server.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.feed.close()
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)
