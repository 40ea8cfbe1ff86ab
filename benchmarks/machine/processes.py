"""Fresh processes: what they get from this one, and what they take of memory, where the system has /proc."""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[2])
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def environment() -> dict[str, str]:
    """This process's, with the clone on the path; NumPy's algebra is kept to one thread."""
    known = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([_ROOT, known] if known else [_ROOT])
    return os.environ | _ONE_THREAD | {"PYTHONPATH": path}


def resident_bytes() -> int | None:
    """Memory of this process that is resident now; None where that cannot be known."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def memory_of(process: int) -> tuple[int, int] | None:
    """Bytes resident in a running process: at its peak, and now. None where that cannot be known."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    fields = dict(line.partition(":")[::2] for line in lines)
    if "VmHWM" not in fields:  # it has just ended
        return None
    return 1024 * int(fields["VmHWM"].split()[0]), 1024 * int(fields["VmRSS"].split()[0])
