"""Text from outside, fit to be shown: on one line, without control characters."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` on one line and without control characters, as a name may hold both, and bytes that are no UTF-8."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in without_surrogates(text)
    )


def without_surrogates(text: str) -> str:
    """`text` as UTF-8 can hold it: bytes of a file's name that are no UTF-8 are written like `\\xe9`."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a character, from elsewhere than a file's name
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
