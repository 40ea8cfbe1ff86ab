"""The process in which a model is tried: `python -m edge_runtime.model.trial_child WISH`, started by `trial`.

It says one JSON object on its standard output: `right`, what is `wrong`, or that there was not enough `memory`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path

from edge_runtime.errors import ModelError
from edge_runtime.model.trial import PROCESSOR_SECONDS, ModelRequest
from edge_runtime.system.process import die_with_parent, own_output

_WANTED_MEMORY = ("bad_alloc", "bad allocation", "allocate", "out of memory")
"""Words of ONNX Runtime's messages for want of memory."""


def main(arguments: list[str]) -> None:
    """Does what the wish in the only argument says, and never returns."""
    output = own_output()
    die_with_parent()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # where memory runs out, this process goes, and not the running program
    wish = ModelRequest.from_json(arguments[0])
    said: dict[str, object]
    try:
        attempt(wish)
        said = {"right": True}
    except MemoryError:
        said = {"memory": True}
    except ModelError as reason:
        text = str(reason)
        said = {"memory": True} if any(word in text.lower() for word in _WANTED_MEMORY) else {"wrong": text[:1000]}
    except Exception as reason:  # a model may break in any way, and whoever waits must hear of it
        said = {"wrong": f"it broke: {type(reason).__name__}: {' '.join(str(reason).split())[:200]}"}
    with contextlib.suppress(OSError):
        os.write(output, json.dumps(said).encode())
    os._exit(0)


def attempt(wish: ModelRequest) -> None:
    """Opens the file and runs all of it. Raises ModelError with what is wrong."""
    import numpy as np

    from edge_runtime.model.inputs import Inputs  # loads ONNX Runtime, whose own memory shall not count
    from edge_runtime.model.network import Network
    from edge_runtime.model.processor import ANY, this_processor
    from edge_runtime.model.sounds import voice_and_noise

    _confine(wish)
    processor = this_processor() if wish.exact else ANY  # whether the file is for this one was judged already
    network = Network.load(Path(wish.path), processor=processor, exact=wish.exact, trusted=True)
    contract = network.contract
    window = wish.window_samples or contract.window_samples
    sounds = voice_and_noise(window, contract.sample_rate)
    stream = Inputs(network, window, 2 * window)
    stream.push(sounds[0], window)
    batch = np.empty((min(2, network.largest_batch), *network.input_shape(window)), np.float32)
    stream.write(sounds[0], 0, batch[0])
    batch[1:] = stream.whole(sounds[1])
    logits = [network.body(batch[:1]), network.body(batch)]
    if not all(np.isfinite(values).all() for values in logits):
        raise ModelError("it gives no numbers for a voice and for noise: its logits are NaN or infinite")


def _confine(wish: ModelRequest) -> None:
    """Bounds memory and time, where this user may."""
    bounds = {resource.RLIMIT_CPU: PROCESSOR_SECONDS, resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0}
    with contextlib.suppress(OSError, ValueError):  # Linux tells what Python and ONNX Runtime take
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bounds[resource.RLIMIT_AS] = pages * resource.getpagesize() + wish.memory_bytes
    for kind, bound in bounds.items():
        with contextlib.suppress(OSError, ValueError):  # the unit's filter of system calls may forbid it
            hard = resource.getrlimit(kind)[1]
            # Below the hard limit, where the kernel kills without saying why.
            lower = bound if hard == resource.RLIM_INFINITY else min(bound, max(0, hard - 1))
            resource.setrlimit(kind, (lower, hard))


if __name__ == "__main__":
    main(sys.argv[1:])
