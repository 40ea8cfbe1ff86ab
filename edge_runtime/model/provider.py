"""Which of ONNX Runtime's execution providers runs a model, and whether it gives the CPU's scores.

ONNX Runtime goes on with the CPU, without an exception, when it cannot load a provider's library, and a provider may
compute in fewer bits than were asked for. So a provider is taken only when its session has it, it runs, and its scores
of two sounds are the CPU's.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.errors import ModelError
from edge_runtime.model.inputs import Inputs
from edge_runtime.model.network import Network
from edge_runtime.model.session import CPU, FATAL, open_session
from edge_runtime.model.sounds import voice_and_noise

TOLERANCE = 0.02
"""Largest difference from the CPU's scores, as log-likelihood ratios. Float32 on another processor differs by less."""
_NAMES = {"tensorrt": ("TensorRT", "TensorrtExecutionProvider"), "cuda": ("CUDA", "CUDAExecutionProvider")}
_FLOAT = ("fp32", "fp16")  # levels; products of the others are kernels of the CPU


def load(path: str | Path | None, provider: str, stopped: Callable[[], bool] = lambda: False) -> Network:
    """The model on `provider`: cpu, cuda, tensorrt, or auto, the first of TensorRT, CUDA and the CPU that is right.

    Its notes tell what was chosen and why not another, but nothing with `auto` where ONNX Runtime has the CPU alone.
    Raises ModelError for a file that `Network.load` refuses, and for a named provider that cannot be had or is wrong;
    Ended as `Network.load` does, which gets `stopped`.
    """
    reference = Network.load(path, stopped=stopped)
    if provider == "cpu":
        return reference
    level = reference.contract.level
    tried = list(_NAMES) if provider == "auto" else [provider]
    if provider == "auto":
        built = onnxruntime.get_available_providers()
        if not any(_NAMES[name][1] in built for name in tried):
            covered = _covered()
            return _noted(reference, f"runs on the CPU; {covered}") if covered else reference
        if level not in _FLOAT:
            text = f"runs on the CPU, as {level} files are made for it; for the GPU take one of level fp32 or fp16"
            return _noted(reference, text)
    refused = []
    for name in tried:
        title = _NAMES[name][0]
        try:
            network = _moved(reference, name)
        except ModelError as reason:
            refused.append(f"{title}: {reason}")
            continue
        slow = "" if level in _FLOAT else f"; much of a file of level {level} runs on the CPU all the same"
        return _noted(network, "; ".join([f"runs on {title}{slow}", *refused]))
    if provider != "auto":
        raise ModelError(f"{refused[0]} (--provider cpu runs everywhere)")
    return _noted(reference, "; ".join(["runs on the CPU", *refused]))


def difference(reference: Network, other: Network) -> float:
    """The largest difference between two networks' scores of a gliding voice and of noise; infinite for no number."""
    worst = 0.0
    for inputs in _trial(reference):
        expected, found = (network.contract.llr(network.body(inputs)) for network in (reference, other))
        worst = max(worst, float(np.abs(expected - found).max()))  # a NaN never is the larger one
        if not np.isfinite(found).all():
            return np.inf
    return worst


def _moved(reference: Network, name: str) -> Network:
    """The network on a provider that works and is right. Raises ModelError with the reason why there is none."""
    provider = _NAMES[name][1]
    if provider not in onnxruntime.get_available_providers():
        raise ModelError(_covered() or f"not in this build of ONNX Runtime ({onnxruntime.__version__})")
    onnxruntime.set_default_logger_severity(FATAL)  # loading a provider is told by this logger, not the session's
    try:
        session = open_session(str(reference.path), f"the model {reference.path}", providers=_OPTIONS[name]())
        lost = provider not in session.get_providers()
        reason = "ONNX Runtime left it out without a reason"
    except ModelError as error:
        lost, reason = True, str(error)
    if lost:
        raise ModelError(_unloadable(name) or f"{reason}: is there a GPU that this user may open, and its driver?")
    network = reference.moved(session)
    apart = difference(reference, network)
    if apart > TOLERANCE:
        raise ModelError(f"its scores differ from the CPU's by {apart:.2g}, more than {TOLERANCE:g}")
    return network


def _cuda() -> list[str | tuple[str, dict[str, str]]]:
    # TF32 keeps 10 bits of float32's 23, and is on unless it is forbidden.
    return [("CUDAExecutionProvider", {"use_tf32": "0"}), CPU]


def _tensorrt() -> list[str | tuple[str, dict[str, str]]]:
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # TensorRT has no option for it
    options = {"trt_fp16_enable": "0", "trt_int8_enable": "0"}
    root = os.environ.get("CACHE_DIRECTORY") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "edge-detect-tensorrt"
    try:  # an engine takes minutes to build
        folder.mkdir(parents=True, exist_ok=True)
        options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
    except OSError:
        pass
    return [("TensorrtExecutionProvider", options), *_cuda()]


_OPTIONS: dict[str, Callable[[], list[str | tuple[str, dict[str, str]]]]] = {"cuda": _cuda, "tensorrt": _tensorrt}


def _unloadable(name: str) -> str | None:
    """Why a provider's library cannot be loaded, as the system's loader says it; None when it can."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / f"libonnxruntime_providers_{name}.so"))
    except OSError as error:
        return f"cannot be loaded: {error}"
    return None


def _covered() -> str | None:
    """What is wrong where the package for the GPU was installed and the one for the CPU over it, as pip does."""
    try:
        distribution("onnxruntime-gpu"), distribution("onnxruntime")
    except PackageNotFoundError:
        return None
    return (
        "onnxruntime lies over onnxruntime-gpu, in the same folder: uninstall both, then install onnxruntime-gpu "
        "with --no-deps"
    )


def _noted(network: Network, text: str) -> Network:
    network.notes = (*network.notes, text)
    return network


def _trial(network: Network) -> list[NDArray[np.float32]]:
    """What the network takes for two windows of sound, the same in every run."""
    contract = network.contract
    samples = contract.window_samples
    inputs = Inputs(network, samples, 2 * samples)
    return [inputs.whole(sound)[None] for sound in voice_and_noise(samples, contract.sample_rate)]
