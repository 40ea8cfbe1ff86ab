"""Restarts and shows the service where systemd cannot run: `python -m tests.rigs.manager ROOT restart|show ...`.

The service is the real program with the configuration of ROOT and, as the image's unit has it, the environment of
ROOT/data/models/environment. It counts as started with its first window.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path


def lives(process: int) -> bool:
    """Whether it runs; one that nobody has waited for is dead as well."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Manager:
    """The one service of a root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._number = root / "pid"
        self.output = root / "output"
        self.complaints = root / "complaints"

    @property
    def process(self) -> int:
        """Its number; 0 where it was never started."""
        return int(self._number.read_text()) if self._number.exists() else 0

    def stop(self) -> None:
        """Ends it."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGTERM)
            while lives(self.process):
                time.sleep(0.02)

    def restart(self) -> int:
        """Gives an exit code as systemctl does."""
        self.stop()
        variables = {}
        with contextlib.suppress(FileNotFoundError):
            for line in (self._root / "data/models/environment").read_text().splitlines():
                if not line.startswith("#"):
                    name, value = line.split("=", 1)
                    variables[name] = shlex.split(value)[0]
        command = [
            sys.executable,
            "-m",
            "edge_runtime",
            "--config",
            str(self._root / "etc/edge-detect/edge-detect.toml"),
        ]
        with self.output.open("w") as output, self.complaints.open("a") as complaints:
            service = subprocess.Popen(
                [*command, "--json"],
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=complaints,
                start_new_session=True,
            )
        self._number.write_text(str(service.pid))
        while service.poll() is None and '"window"' not in self.output.read_text():
            time.sleep(0.02)
        return 1 if service.poll() else 0

    def show(self) -> None:
        """As `systemctl show` does."""
        print(f"ActiveState={'active' if lives(self.process) else 'failed'}\nNRestarts=0")


if __name__ == "__main__":
    manager = Manager(Path(sys.argv[1]))
    if sys.argv[2] == "restart":
        sys.exit(manager.restart())
    manager.show()
