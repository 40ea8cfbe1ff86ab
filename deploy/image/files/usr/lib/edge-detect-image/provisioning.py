"""What provision.toml may say: read and checked, and as the files of a box have it.

For `provision`, beside this file. Whatever the file holds, it ends in asked that can be put in force or in Wrong, and
nothing that it says becomes a line of its own in a file that is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import signal
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LARGEST_FILE = 64 << 10
"""Bytes of provision.toml; the template has 2 KB."""
READ_SECONDS = 5
"""Of processor time, after which reading it is given up: keys of thousands of parts take minutes."""
DEFAULTS = {
    "device": "default",
    "connect_timeout": "forever",
    "recover_timeout": "forever",
    # Without it nobody could say what was heard, and an update could only be found good by the example clips.
    "ledger": "/var/lib/edge-detect/ledger.sqlite",
}
"""What a box needs to listen, where [settings] does not say otherwise."""
KNOWN = {"hostname": str, "timezone": str, "ssh_keys": list, "wifi": dict, "settings": dict}
WIFI = {"ssid": str, "passphrase": str, "country": str, "hidden": bool}
HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
TIMEZONE = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}")
SSH_KEY = re.compile(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]{1,60} [A-Za-z0-9+/=]{1,8000}( .{0,1000})?")
OPTION = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Wrong(Exception):
    """What is wrong in the file, in one line."""


def read(text: bytes) -> dict[str, Any]:
    """The file's asked, checked. Raises Wrong, whatever the file holds."""
    if len(text) > LARGEST_FILE:
        raise Wrong(f"it is longer than {LARGEST_FILE >> 10} KB")
    try:
        with limited(READ_SECONDS):
            asked = tomllib.loads(text.decode("utf-8-sig"))  # editors on Windows put a mark before the first line
    except ValueError as reason:  # no UTF-8, no TOML, or a number of thousands of digits
        raise Wrong(f"it is no TOML: {reason}") from None
    except (RecursionError, MemoryError):
        raise Wrong("it is no TOML: brackets without end") from None
    _kinds(asked, KNOWN, "")
    _kinds(asked.get("wifi", {}), WIFI, "wifi.")
    if not HOSTNAME.fullmatch(asked.get("hostname", "x")):
        raise Wrong("hostname has other characters than a to z, 0 to 9 and -")
    if not is_timezone(asked.get("timezone", "UTC")):
        raise Wrong(f"there is no timezone {asked['timezone']}: try Europe/Berlin, or UTC")
    for key in asked.get("ssh_keys", []):
        if not isinstance(key, str) or not SSH_KEY.fullmatch(key.strip()) or not key.strip().isprintable():
            raise Wrong("ssh_keys has something else than public keys (the line of a file .pub)")
    if (wifi := asked.get("wifi")) is not None:
        if not 1 <= len(wifi.get("ssid", "").encode()) <= 32:
            raise Wrong("wifi.ssid, the network's name, has to have 1 to 32 bytes")
        if "passphrase" in wifi and not 8 <= len(wifi["passphrase"]) <= 63:
            raise Wrong("wifi.passphrase has to have 8 to 63 characters")
        if not re.fullmatch("[A-Z]{2}", wifi.get("country", "")):
            raise Wrong("wifi.country, two letters such as DE, has to be there: it says which channels are allowed")
    return asked


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises Wrong in the block when it takes more processor time."""

    def end(number: int, frame: object) -> None:
        raise Wrong(f"reading it takes more than {seconds:g} s")

    signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def is_timezone(name: str) -> bool:
    """Whether there is such a file, and it is one of a zone: others lie beside them."""
    if not TIMEZONE.fullmatch(name):
        return False
    try:
        with (Path("/usr/share/zoneinfo") / name).open("rb") as file:
            return file.read(4) == b"TZif"
    except OSError:
        return False


def _kinds(values: dict[str, Any], known: Mapping[str, type], prefix: str) -> None:
    for name, value in values.items():
        if name not in known:
            raise Wrong(f"{prefix}{name[:40]} is not known; there are {', '.join(known)}")
        if not isinstance(value, known[name]):
            raise Wrong(f"{prefix}{name} has to be a {known[name].__name__}, not a {type(value).__name__}")


def wireless(wifi: dict[str, Any]) -> str:
    """wpa_supplicant's configuration; name and key as hexadecimal numbers, so that no character needs care."""
    lines = [f"country={wifi['country']}", "network={", f"    ssid={wifi['ssid'].encode().hex()}"]
    if "passphrase" in wifi:
        key = hashlib.pbkdf2_hmac("sha1", wifi["passphrase"].encode(), wifi["ssid"].encode(), 4096, 32)
        lines += [f"    psk={key.hex()}", "    key_mgmt=WPA-PSK WPA-PSK-SHA256", "    ieee80211w=1"]
    else:
        lines.append("    key_mgmt=NONE")
    if wifi.get("hidden"):
        lines.append("    scan_ssid=1")
    return "\n".join([*lines, "}", ""])


def as_toml(settings: dict[str, Any], more: dict[str, Any] | None = None) -> str:
    """The detector's configuration. Raises Wrong for names and values that would be something else in it."""
    settings = {**DEFAULTS, **(more or {}), **settings}
    return "".join(f"{_name(name)} = {_value(name, value)}\n" for name, value in settings.items())


def _name(name: str) -> str:
    if not OPTION.fullmatch(name):  # a quoted key may hold line breaks
        raise Wrong(f"settings.{name[:40]} is no option")
    return name


def _value(name: str, value: Any) -> str:
    """As TOML has it. A string of JSON is one of TOML too, except that DEL has to be escaped."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "[" + ", ".join(_value(name, one) for one in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and math.isfinite(value if abs(value) < 1e300 else math.inf):
        return str(value)
    raise Wrong(f"settings.{name} has a value that no option has, such as a date, a table or a number without end")


def line(text: str) -> str:
    """On one line, without what a terminal or the journal would obey, and not for ever."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text.strip())
    return shown if len(shown) <= 500 else shown[:500] + "..."
