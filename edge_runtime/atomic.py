"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.errors import OutputError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` that takes its place when the block ends without an error.

    On an error the temporary file goes and whatever stood at `path` stays as it was. Raises OutputError when
    the folder is missing or cannot be written, the disk is full, or `path` is no regular file (the renaming would
    put a file in the place of a device).
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        raise OutputError(f"cannot write {target}: it is a folder or a device, not a file")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
    except OSError as reason:
        raise OutputError(f"cannot write {target}: {reason.strerror or reason}") from None
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes files private; a model is read by the service's user
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    except OSError as reason:
        raise OutputError(f"cannot write {target}: {reason.strerror or reason}") from None
    finally:
        temporary.unlink(missing_ok=True)
