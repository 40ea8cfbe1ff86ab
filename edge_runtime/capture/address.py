"""Addresses of streams: which there can be, how they are shown, and what of them nobody may read."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

_WEB = "http,https,httpproxy,tcp,tls,crypto"
_CAMERA = f"rtp,srtp,udp,{_WEB}"  # a camera's sound within its connection, beside it, or through a web server
PROTOCOLS = {
    "rtsp": _CAMERA,
    "rtsps": _CAMERA,
    "http": _WEB,
    "https": _WEB,
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tcp,tls",
    "srt": "srt",
    "tcp": "tcp",
    "udp": "udp",
}
"""Scheme -> what ffmpeg may use for it. None of them reads files: a playlist that names one is refused."""
_HIDDEN = "***"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]+")
_SHORTEST_SECRET = 3
"""Characters: what is shorter stands in many a word."""


def refused(url: str) -> str | None:
    """Why a URL cannot be listened to, as the end of a sentence; None when it can. Never says what stands in it."""
    kinds = ", ".join(f"{scheme}://" for scheme in PROTOCOLS)
    try:
        parts = urlsplit(url)
        whole = parts.scheme in PROTOCOLS and bool(parts.netloc)
        _ = parts.port  # raises ValueError for one that is no number
    except ValueError:
        return "must be a URL with a host and a port that is a number"
    if not whole:
        return f"must be a URL that begins with one of {kinds}"
    if not url.isprintable() or " " in url:
        return "must be a URL without spaces and control characters: write them as %20 and the like"
    return None


def shown(url: str) -> str:
    """The URL as people may read it: name, password and what is asked for (`?...`) are hidden.

    Where a password holds what should have been written as %40, %2F or %3F, more is hidden rather than less.
    """
    scheme, mark, rest = url.partition("://")
    secret, place, asked = _parts(rest)
    if not mark or not place:
        return f"{scheme}://{_HIDDEN}" if mark else _HIDDEN
    return f"{scheme}://{_HIDDEN + '@' if secret else ''}{place}{'?' + _HIDDEN if asked else ''}"


def without_secrets(text: str, url: str) -> str:
    """A text that another program wrote about `url`, in which every URL is as `shown` and no secret is left."""
    text = text.replace(url, shown(url))
    text = _URL.sub(lambda found: shown(found[0]), text)
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _parts(rest: str) -> tuple[str, str, str]:
    """What stands before the host, from the host on, and behind that; no host where it is not clear which it is."""
    place, mark, asked = rest.replace("#", "?").partition("?")
    user, _, place = place.rpartition("@")
    if mark and not user and "@" in asked:  # a password with a question mark, perhaps
        return rest, "", ""
    return user, place, asked


def _secrets(url: str) -> set[str]:
    user, _, asked = _parts(url.partition("://")[2])
    found = {user, *user.split(":", 1), asked, *(word.partition("=")[2] for word in asked.split("&"))}
    return {form for secret in found for form in (secret, unquote(secret)) if len(form) >= _SHORTEST_SECRET}
