"""A microphone `hw:1` that one program at a time can open, as real sound cards are: others are told that it is busy."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .pulse import PulseMicrophone

_PLUGIN = """\
#include <alsa/asoundlib.h>
#include <alsa/pcm_external.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

/* Opens pcm.free, unless the file at `lock` is locked. */
SND_PCM_PLUGIN_DEFINE_FUNC(exclusive) {
    const char *path = NULL;
    snd_config_t *entry;
    if (snd_config_search(conf, "lock", &entry) < 0 || snd_config_get_string(entry, &path) < 0) return -EINVAL;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    int taken = file < 0 || flock(file, LOCK_SH | LOCK_NB) < 0;
    if (file >= 0) close(file);
    return taken ? -EBUSY : snd_pcm_open(pcmp, "free", stream, mode);
}
SND_PCM_PLUGIN_SYMBOL(exclusive);
"""
_ALSA = """\
pcm_type.exclusive {{ lib "{library}" }}
pcm.free {{ type pulse device fakemic }}
pcm."hw:1" {{ type exclusive lock "{lock}" }}
pcm.!hw {{
  @args [ CARD DEV SUBDEV ]
  @args.CARD {{ type string default "0" }}
  @args.DEV {{ type string default "0" }}
  @args.SUBDEV {{ type string default "0" }}
  type exclusive
  lock "{lock}"
}}
"""


class ExclusiveMicrophone(PulseMicrophone):
    """Like PulseMicrophone, but it can be taken."""

    def __enter__(self) -> ExclusiveMicrophone:
        super().__enter__()
        source, library, self._lock = (self._home / name for name in ("exclusive.c", "exclusive.so", "lock"))
        source.write_text(_PLUGIN)
        self._lock.touch()
        flags = ["-shared", "-fPIC", "-DPIC", "-D_GNU_SOURCE"]
        subprocess.run(["gcc", *flags, "-o", str(library), str(source), "-lasound"], check=True)
        (self._home / ".asoundrc").write_text(_ALSA.format(library=library, lock=self._lock))
        return self

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Within it another program has the microphone."""
        with open(Path(self._lock)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
