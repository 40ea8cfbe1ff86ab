"""Servers of sound on this machine, at the pace of real ones: an HTTP stream, and an RTSP camera with a password."""

from __future__ import annotations

import base64
import contextlib
import socket
import socketserver
import struct
import threading
import time
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 16000
_STEP_SECONDS = 0.04


class SoundServer:
    """What both have in common: the sound, and what can befall them. There from entering the context to leaving it."""

    def __init__(self, password: str = "") -> None:
        """With `password` only the user `camera` with that is served (basic authentication)."""
        self.password = password
        self.listeners = 0
        """How many have been given sound since the start."""
        self.length_seconds: float | None = None
        """After so much sound the server ends the connection by itself."""
        self._noise = np.random.default_rng(0).integers(-300, 300, 10 * RATE).astype("<i2")
        self._paused = threading.Event()
        self._port = 0
        self._connections: list[socket.socket] = []
        self._server: socketserver.ThreadingTCPServer | None = None

    def __enter__(self) -> SoundServer:
        self.restart()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._port}"

    def play(self, samples: NDArray[np.int16]) -> None:
        """From now on, for new connections, this int16 [n] of RATE Hz, over and over."""
        self._noise = samples.astype("<i2")

    def pause(self) -> None:
        """Connections stay open and give nothing."""
        self._paused.set()

    def resume(self) -> None:
        self._paused.clear()

    def kill(self) -> None:
        """The server and all of its connections end."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def restart(self) -> None:
        """It is there again, at the same place."""
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer._connections.append(self.request)
                with contextlib.suppress(OSError, ValueError):
                    outer.serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        """Speaks to one listener until either goes."""
        raise NotImplementedError

    def allowed(self, request: str) -> bool:
        """Whether a request carries the password, where one is asked for."""
        wanted = base64.b64encode(f"camera:{self.password}".encode()).decode()
        return not self.password or f"Basic {wanted}" in request

    def steps(self) -> Any:
        """The sound, a step of int16 at a time, each when it is due. The clock goes on while the server is paused."""
        self.listeners += 1
        size = round(RATE * _STEP_SECONDS)
        due = begun = time.monotonic()
        place = 0
        while self.length_seconds is None or due - begun < self.length_seconds:
            if not self._paused.is_set():
                yield np.take(self._noise, range(place, place + size), mode="wrap")
            place += size
            due += _STEP_SECONDS
            time.sleep(max(0.0, due - time.monotonic()))


class HttpStream(SoundServer):
    """A WAV without an end over HTTP, in eight channels alike: ffmpeg wants 128 kB before it knows what it is."""

    CHANNELS = 8

    @property
    def url(self) -> str:
        return f"http://{self.place}/live.wav"

    def serve(self, connection: socket.socket) -> None:
        request = _request(connection)
        if not self.allowed(request):
            connection.sendall(b'HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n')
            return
        if not request.startswith("GET /live.wav "):
            connection.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n")
            return
        size = 2 * self.CHANNELS
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, self.CHANNELS, RATE, size * RATE, size, 16)
        head = b"RIFF\xff\xff\xff\xffWAVE" + form + b"data\xff\xff\xff\xff"
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: audio/wav\r\n\r\n" + head)
        for step in self.steps():
            connection.sendall(np.repeat(step, self.CHANNELS).tobytes())


class RtspCamera(SoundServer):
    """The sound of a camera over RTSP: linear PCM in RTP packets within the connection (interleaved TCP)."""

    @property
    def url(self) -> str:
        return f"rtsp://{self.place}/stream1"

    def serve(self, connection: socket.socket) -> None:
        while request := _request(connection):
            method = request.split(" ", 1)[0]
            number = next((line[5:].strip() for line in request.splitlines() if line.lower().startswith("cseq:")), "0")
            head, body = ["Session: 1"], ""
            status = "200 OK"
            if method == "DESCRIBE" and not self.allowed(request):
                status, head = "401 Unauthorized", ['WWW-Authenticate: Basic realm="camera"']
            elif method == "DESCRIBE":
                body = (
                    f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=audio 0 RTP/AVP 97\r\n"
                    f"a=rtpmap:97 L16/{RATE}/1\r\na=control:track1\r\n"
                )
                head = [f"Content-Base: {self.url}/", "Content-Type: application/sdp", f"Content-Length: {len(body)}"]
            elif method == "SETUP":
                head.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
            lines = [f"RTSP/1.0 {status}", f"CSeq: {number}", *head]
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
            if method == "PLAY":
                for packet, step in enumerate(self.steps()):
                    rtp = struct.pack(">BBHII", 0x80, 97, packet & 0xFFFF, packet * len(step), 7)
                    data = rtp + step.astype(">i2").tobytes()
                    connection.sendall(struct.pack(">cBH", b"$", 0, len(data)) + data)
                return


def _request(connection: socket.socket) -> str:
    """The next request's head; empty when the connection has ended."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return ""
        data += byte
    return data.decode("latin-1")
