"""Which options fit together, whatever place each of them comes from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

NOTHING = (
    "nothing to listen to: name a file (--file clip.wav), a microphone (--device hw:1; --list-devices shows them), a "
    "stream (--stream rtsp://...) or pipe a WAV in (--file -)"
)
_SOURCES = ("device", "stream", "file", "list_devices")


def misfits(given: Callable[[str], Any], unclear: Collection[str] = ()) -> Iterator[str]:
    """Why values that are right each for themselves do not fit together: all reasons.

    `given` is the value of an option, or its default. Nothing is said about the options `unclear`, and about what
    others need of them.
    """
    if sum(bool(given(name)) for name in _SOURCES) > 1:
        yield "--file, --device, --stream and --list-devices exclude each other: give one of them"
    if given("file").count("-") > 1:
        yield "standard input (--file -) can be read only once"
    if given("raw") is not None and not given("file") and "file" not in unclear:
        yield "--raw describes a file or standard input: add --file -"
    if given("live") and len(given("file")) != 1 and "file" not in unclear:
        yield "--live is for one pipe: add --file - (or the path of a FIFO, and of nothing else)"
    if given("raw") is None and "raw" not in unclear and (given("rate") is not None or given("channels") is not None):
        yield "--rate and --channels describe raw sound: add --raw s16le (other files say it themselves)"
    if given("stream") is not None:
        yield from _address(given("stream"))
    on, off = given("alarm_on"), given("alarm_off")
    if on is not None and off is not None and off < on:
        yield f"--alarm-off ({off:g}) must not lie below --alarm-on ({on:g})"


def _address(url: str) -> Iterator[str]:
    from edge_runtime.capture.address import refused  # late: most runs need none of urllib

    reason = refused(url)
    if reason:
        yield f"--stream {reason}"
