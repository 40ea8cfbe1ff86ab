"""Runs a command under the system calls that a systemd unit leaves: `python confined.py UNIT COMMAND ...`.

systemd itself applies a unit only where it is the first process. This takes SystemCallFilter= and
MemoryDenyWriteExecute= out of the unit, asks systemd-analyze what the groups of calls hold, and lays the same filter on
with libseccomp.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_MASKED_EQUAL = 7
_WRITE, _EXECUTE = 2, 4
_NO_NEW_PRIVILEGES = 38


class _Comparison(ctypes.Structure):
    """scmp_arg_cmp: whether argument `argument`, masked with `mask`, is `value`."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


def calls(name: str) -> set[str]:
    """The system calls that a name in SystemCallFilter= stands for; `@group` holds calls and other groups."""
    if not name.startswith("@"):
        return {name}
    done = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True)
    members = [line.strip() for line in done.stdout.splitlines()[1:]]
    return set().union(*(calls(member) for member in members if member and not member.startswith("#")))


def allowed(unit: Path) -> tuple[set[str], bool]:
    """The system calls that a unit leaves, and whether it keeps memory from being both written and executed."""
    left = calls("@default")
    sealed = False
    for line in unit.read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "SystemCallFilter":
            named = set().union(*(calls(name) for name in value.removeprefix("~").split()))
            left = left - named if value.startswith("~") else left | named
        elif key == "MemoryDenyWriteExecute":
            sealed = value == "yes"
    return left, sealed


def confine(names: set[str], sealed: bool) -> None:
    """Lays the filter on this process and all that it becomes. Raises OSError when that cannot be."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_REFUSE)))
    for name in sorted(names):
        number = library.seccomp_syscall_resolve_name(name.encode())
        rules: list[tuple[int, int]] = []
        if sealed and name in ("mprotect", "pkey_mprotect"):
            rules = [(_EXECUTE, 0)]
        elif sealed and name == "mmap":
            rules = [(_WRITE | _EXECUTE, 0), (_WRITE | _EXECUTE, _WRITE), (_WRITE | _EXECUTE, _EXECUTE)]
        if not rules:
            library.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)
        for mask, value in rules:
            comparison = _Comparison(2, _MASKED_EQUAL, mask, value)  # the third argument is the protection
            library.seccomp_rule_add_array(context, ctypes.c_uint32(_ALLOW), number, 1, ctypes.byref(comparison))
    ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    refused = library.seccomp_load(context)
    if refused:
        raise OSError(-refused, os.strerror(-refused))


def main() -> None:
    """Confines this process and becomes the command."""
    confine(*allowed(Path(sys.argv[1])))
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
