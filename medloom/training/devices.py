"""The devices and processes that a training runs on, and the memory that it keeps."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch

from medloom.core.errors import UserError
from medloom.core.progress import say
from medloom.networks.precision import computes_in_bf16
from medloom.training.options import LoopOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

# Of mallopt(3), and from how many bytes on memory is given back: more than a training has, and the most
# that glibc lets its own adaptive limit grow to.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, KEPT_BYTES, USUAL_BYTES = -1, -3, 2**31 - 1, 2**25


def make_accelerator(options: LoopOptions, device: str = "auto", some_unused: bool = False) -> "Accelerator":
    """The Accelerator of a run.

    Args:
        options: gives precision and batch.
        device: auto (a GPU if available), cpu or cuda.
        some_unused: whether a step may leave some trained weights without gradient; several processes then have to
            search for them, at a cost.

    Raises:
        UserError: CUDA without a CUDA device, fp16 on a CPU, or a batch that does not divide.
    """
    check_device(device)
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if options.precision == "fp16" and on_cpu:
        raise UserError("--loop.precision fp16 needs a GPU; on a CPU use bf16 or fp32.")
    # The other processes may wait for hours while the main process fills the cache.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=24))
    gradients = DistributedDataParallelKwargs(find_unused_parameters=some_unused)
    # Accelerate would refuse another precision in a second training of the same program.
    AcceleratorState._reset_state()
    native = computes_in_bf16(torch.device("cpu" if on_cpu else "cuda"))
    mixed = {"fp32": "no", "auto": "bf16" if native else "no"}.get(options.precision, options.precision)
    accelerator = Accelerator(mixed_precision=mixed, cpu=on_cpu, kwargs_handlers=[patience, gradients])
    if mixed == "bf16" and not native and accelerator.is_main_process:
        say(
            "--loop.precision bf16 is emulated by this device and takes several times as long as fp32;"
            " --loop.precision auto uses fp32 here."
        )
    divisor = accelerator.num_processes * options.accumulate
    if options.batch % divisor:
        raise UserError(
            f"--loop.batch {options.batch} does not divide over {accelerator.num_processes} processes and"
            f" {options.accumulate} micro-batches; use a multiple of {divisor}."
        )
    return accelerator


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within the block the C library keeps memory that a training step frees: the next one needs it again.

    Asking the system for it takes 3 to 6 % of a step of a small network on a CPU. Only glibc has these settings.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    for setting in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        library.mallopt(setting, KEPT_BYTES)
    try:
        yield
    finally:
        for setting in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            library.mallopt(setting, USUAL_BYTES)
        library.malloc_trim(0)


def check_device(device: str) -> None:
    """Refuse an unknown device, and CUDA without a CUDA device.

    Raises:
        UserError: states what is allowed.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device} is not known; allowed: auto, cpu, cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is available here; use --device cpu or auto.")
