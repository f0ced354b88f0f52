"""The processes of one training, as `accelerate launch` or `torchrun` starts them: this one's rank, and what
they exchange. A process alone is rank 0 of 1 and exchanges nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from .errors import InputError


@dataclass(frozen=True)
class Distributed:
    """This process, its device, and how many work together."""

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")

    def share(self, total: int) -> slice:
        """This rank's rows of `total`, which is a multiple of `count`."""
        size = total // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def gather(self, rows: Tensor) -> Tensor:
        """Every rank's rows [B, ...] as [count * B, ...], on all ranks; a row's gradient is the sum of those
        of every rank's loss."""
        return torch.cat(all_gather(rows)) if self.count > 1 else rows

    def averaging(self, module: nn.Module) -> nn.Module:
        """The module, whose backward pass leaves the mean of all ranks' gradients; unwrapped where this
        process is alone.

        A gathered row's gradient is the sum over all ranks' losses; with the same loss on all of them, this
        mean is the gradient of one process with all rows.
        """
        if self.count == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        # Of a CAV-MAE block's three pairs of norms, a pass through one modality uses one.
        return nn.parallel.DistributedDataParallel(module, devices, find_unused_parameters=True)

    @torch.no_grad()
    def average(self, values: Iterable[Tensor]) -> None:
        """Makes each of the tensors the mean over all ranks, in place."""
        if self.count > 1:
            for value in values:
                dist.all_reduce(value)
                value /= self.count

    def agree(self, value: float) -> float:
        """Rank 0's value, on all ranks."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return shared.item()

    def wait(self) -> None:
        """Waits until all ranks are here."""
        if self.count > 1:
            dist.barrier()

    def check(self, batch: int) -> None:
        """Raises InputError where a batch cannot be shared evenly."""
        if batch % self.count:
            raise InputError(
                f"A batch of {batch} cannot be shared by {self.count} processes: take a multiple of "
                f"{self.count}."
            )


ALONE = Distributed()


def join() -> Distributed:
    """Joins the processes that the launcher started with this one, on GPUs where there are (NCCL), else on
    CPUs (gloo); alone, it only picks the device."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    on_gpu = torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "").lower() != "true"
    if count == 1:
        return Distributed(device=torch.device("cuda" if on_gpu else "cpu"))
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    # Encoding a large data set may take one rank much longer than another.
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(hours=2))
    return Distributed(dist.get_rank(), dist.get_world_size(), device)


def leave() -> None:
    """Ends what `join` began."""
    if dist.is_initialized():
        dist.destroy_process_group()
