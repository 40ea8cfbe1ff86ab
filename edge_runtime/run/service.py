"""What systemd hears: ready, alive, reloading, stopping, and a line of status; sd_notify(3) without libsystemd."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, MutableMapping

_PER_INTERVAL = 4
"""Signs of life in the time that systemd waits for one: a late one does no harm."""


class Service:
    """Talks to the service manager that started this process; without one every call does nothing.

    Nothing here raises or blocks: a manager that does not listen is no reason to stop.
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`address` is a path or, with a leading @, an abstract name; `watchdog_seconds`: None without a watchdog."""
        self.watchdog_seconds = watchdog_seconds
        self._clock = clock
        self._fed = float("-inf")
        self._status = ""
        self._socket: socket.socket | None = None
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        if self._address:
            with contextlib.suppress(OSError):
                self._socket = socket.socket(
                    socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                )

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] | None = None) -> Service:
        """The manager that NOTIFY_SOCKET names. Takes the variables out, so that no child speaks in our name.

        The watchdog is on when WATCHDOG_USEC is set and WATCHDOG_PID, where given, is this process.
        """
        environment = os.environ if environment is None else environment
        address = environment.pop("NOTIFY_SOCKET", None)
        microseconds = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", "")
        ours = process in ("", str(os.getpid()))
        seconds = int(microseconds) / 1e6 if ours and microseconds.isdecimal() and int(microseconds) else None
        return cls(address if address and address[0] in "/@" else None, seconds)

    @property
    def present(self) -> bool:
        """Whether there is a manager to talk to."""
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """The service has started, or has read its configuration."""
        self._send("READY=1", *self._new_status(status))

    def status(self, text: str) -> None:
        """What `systemctl status` shows; sent when it changed."""
        self._send(*self._new_status(text))

    def alive(self) -> None:
        """A sign of life for the watchdog: call it at every turn of the loop, it is sent as often as needed."""
        now = self._clock()
        if self.watchdog_seconds is not None and now - self._fed >= self.watchdog_seconds / _PER_INTERVAL:
            self._fed = now
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """The configuration is read again; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> None:
        """The service is about to end."""
        self._send("STOPPING=1", *self._new_status(status))

    def close(self) -> None:
        """Nothing is reported any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _new_status(self, text: str) -> tuple[str, ...]:
        line = " ".join(text.split())
        if not line or line == self._status:
            return ()
        self._status = line
        return (f"STATUS={line}",)

    def _send(self, *assignments: str) -> None:
        if self._socket is None or self._address is None or not assignments:
            return
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(assignments).encode("utf-8", "backslashreplace"), self._address)
