"""A wall clock that a test can set for one program, while the monotonic one goes on."""

from __future__ import annotations

import subprocess
from pathlib import Path

_LIBRARY = """\
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The wall clock, plus the seconds that stand in the file WALL_CLOCK_OFFSET. */
int clock_gettime(clockid_t clock, struct timespec *when) {
    int result = syscall(SYS_clock_gettime, clock, when);
    const char *path = getenv("WALL_CLOCK_OFFSET");
    if (result == 0 && clock == CLOCK_REALTIME && path) {
        FILE *file = fopen(path, "r");
        long seconds = 0;
        if (file) {
            if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
            fclose(file);
        }
        when->tv_sec += seconds;
    }
    return result;
}
"""


def settable(offset: Path) -> dict[str, str]:
    """The environment of a program whose wall clock is ahead by the seconds that the file `offset` holds."""
    source, library = offset.with_suffix(".c"), offset.with_suffix(".so")
    source.write_text(_LIBRARY)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return {"LD_PRELOAD": str(library), "WALL_CLOCK_OFFSET": str(offset)}
