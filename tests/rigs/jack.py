"""A microphone `hw:1` that JACK's dummy driver plays: paced, and at one rate only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

_ALSA = """\
pcm.!hw {
  @args [ CARD DEV SUBDEV ]
  @args.CARD { type string default "0" }
  @args.DEV { type string default "0" }
  @args.SUBDEV { type string default "0" }
  type jack
  capture_ports { 0 "micfeed:out" }
  playback_ports { 0 "system:playback_1" }
}
pcm."hw:1" {
  type jack
  capture_ports { 0 "micfeed:out" }
  playback_ports { 0 "system:playback_1" }
}
"""
_FEED = """\
import sys, time, jack, soundfile
sound, rate = soundfile.read(sys.argv[1], dtype="float32")
client = jack.Client("micfeed", no_start_server=True)
port = client.outports.register("out")
place = 0

@client.set_process_callback
def process(frames):
    global place
    part = sound[place : place + frames]
    out = port.get_array()
    out[: len(part)] = part
    out[len(part) :] = 0
    place = (place + frames) % len(sound)

with client:
    print("ready", flush=True)
    time.sleep(600)
"""
_FREEZER = """\
import ctypes, signal
signal.signal(signal.SIGUSR1, lambda *_: ctypes.PyDLL(None).usleep(2_000_000))  # with the interpreter's lock held
"""


class JackMicrophone:
    """Inside the context programs started with `environment` find the microphone; it loops a WAV."""

    def __init__(self, wav: Path, rate: int) -> None:
        self._wav = wav
        self._rate = rate
        self._home = Path(tempfile.mkdtemp(prefix="jack"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "HOME": str(self._home),
            "XDG_RUNTIME_DIR": str(self._home),
            "JACK_NO_AUDIO_RESERVATION": "1",
            "JACK_NO_START_SERVER": "1",
            "JACK_DEFAULT_SERVER": self._home.name,
            "PYTHONPATH": str(self._home),  # Python programs stand still for two seconds at SIGUSR1, JACK does not
        }

    def __enter__(self) -> JackMicrophone:
        (self._home / ".asoundrc").write_text(_ALSA)
        (self._home / "feed.py").write_text(_FEED)
        (self._home / "sitecustomize.py").write_text(_FREEZER)
        self._serve()
        return self

    def kill(self) -> None:
        """The server dies under the program that listens."""
        self._processes[0].kill()
        self._processes[0].wait()

    def restart(self) -> None:
        """It is started again, after `kill`."""
        self._end_processes()
        self._serve()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _serve(self) -> None:
        _forget_dead_servers()
        server = ["jackd", "-n", self._home.name, "-r", "-d", "dummy", "-r", str(self._rate), "-p", "256"]
        self._start(server, "jackd")
        for _ in range(30):
            time.sleep(0.3)
            feeder = self._start([sys.executable, str(self._home / "feed.py"), str(self._wav)], "feed")
            assert feeder.stdout
            if feeder.stdout.readline() == b"ready\n":
                return
            self._processes.pop().wait()
        log = "".join(path.read_text(errors="replace") for path in self._home.glob("*.log"))
        self._end()
        raise RuntimeError(f"JACK did not start: {log}")

    def _start(self, command: list[str], name: str) -> subprocess.Popen[bytes]:
        with open(self._home / f"{name}.log", "wb") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=log)
        self._processes.append(process)
        return process

    def _end(self) -> None:
        self._end_processes()
        shutil.rmtree(self._home, ignore_errors=True)

    def _end_processes(self) -> None:
        for process in reversed(self._processes):
            process.terminate()  # a server that is killed stays in JACK's list, which has eight places
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        self._processes.clear()


def _forget_dead_servers() -> None:
    """Empties JACK's list of servers, in which killed ones stay until it is full; not while a server runs."""
    if subprocess.run(["pgrep", "-x", "jackd|jackdbus"], capture_output=True).returncode == 1:
        for path in Path("/dev/shm").glob("jack*"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
