"""Two processes with half a batch each learn what one learns from the whole."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aai.align.settings import AlignSettings
from aai.align.train import Pairs, align
from aai.distributed import ALONE, Distributed, join, leave
from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.errors import InputError

TINY = CAVMAEConfig(
    dim=16, depth_a=1, depth_v=1, heads=2, mel_bins=32, frames=64, image_size=32, patch=16, seconds=0.64
)
CASES = {
    "audio": AlignSettings(
        steps=3, batch=8, rate=1e-3, warmup=1, ramp_steps=1, keep=0.5, learn_tau=True, multi_positive=True,
        accumulate=2, m=0.9,
    ),
    "shared": AlignSettings(
        steps=2, batch=8, rate=1e-3, warmup=1, ramp_steps=1, momentum="literal_shared", m=0.9
    ),
}  # fmt: skip


def dealt(distributed):
    def batches(generator, size):
        fbanks = torch.randn(size, TINY.frames, TINY.mel_bins, generator=generator)
        f_t, f_v = (torch.randn(size, TINY.dim, generator=generator) for _ in range(2))
        labels = torch.randint(4, (size,), generator=generator)
        tokens = torch.randn(size, TINY.image_tokens, TINY.dim, generator=generator)
        own = distributed.share(size)
        return Pairs(fbanks[own], f_t[own], f_v[own], labels[own], tokens[own])

    return batches


def train(name, distributed):
    """The curve, the last step's gradients, the weights, tau and the best measured step."""
    torch.manual_seed(0)
    model = CAVMAE(TINY, share_unified=name == "shared").eval()
    qualities = iter((0.2, 0.9, 0.5))

    def measure(model):
        # Only rank 0 measures.
        assert distributed.rank == 0
        return next(qualities)

    result = align(model, dealt(distributed), CASES[name], None, measure, 1, distributed)
    parameters = model.audio_parameters()
    gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
    return result.curve, gradients, [p.detach() for p in parameters], result.tau, result.step


def work(folder):
    """What a process that a launcher started does."""
    distributed = join()
    rank = distributed.rank
    x = torch.arange(6.0).view(3, 2).add(10 * rank).requires_grad_()
    everything = distributed.gather(x)
    (everything * torch.arange(6.0)[:, None] * (rank + 1)).sum().backward()
    labels = distributed.gather(torch.arange(3) + 3 * rank)
    made = {"gathered": everything.detach(), "gradient": x.grad, "labels": labels}
    made["agreed"] = distributed.agree(rank + 0.25)
    torch.save({**made, **{name: train(name, distributed) for name in CASES}}, f"{folder}/{rank}.pt")
    leave()


def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    processes = []
    for rank in range(2):
        environment = {
            **os.environ,
            **meet,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "OMP_NUM_THREADS": "1",
        }
        environment |= {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(Path(__file__).parents[1])}
        processes.append(subprocess.Popen([sys.executable, __file__, str(tmp_path)], env=environment))
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for rank, made in enumerate(ranks):
        expected = torch.cat([torch.arange(6.0).view(3, 2), torch.arange(6.0).view(3, 2) + 10])
        assert torch.equal(made["gathered"], expected) and made["agreed"] == 0.25
        assert torch.equal(made["labels"], torch.arange(6))
        # Row i weighs i in rank 0's loss and 2 i in rank 1's.
        assert torch.equal(made["gradient"], 3.0 * torch.arange(6.0).view(2, 3, 1)[rank].expand(3, 2))
    for name in CASES:
        curve, gradients, weights, tau, step = train(name, ALONE)
        assert any(figures["l_t"] > 1e-4 for figures in curve)
        for made in ranks:
            other_curve, other_gradients, other_weights, other_tau, other_step = made[name]
            assert (step, abs(tau - other_tau) < 1e-6) == (other_step, True)
            for figures, others in zip(curve, other_curve, strict=True):
                for key in figures:
                    assert abs(figures[key] - others[key]) < 1e-5, (name, key)
            for own, other in zip(gradients, other_gradients, strict=True):
                assert (own is None) == (other is None)
                if own is not None:
                    torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(weights, other_weights, rtol=1e-3, atol=1e-4)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(InputError, match="A batch of 120 .* 7 processes"):
        Distributed(0, 7).check(120)


if __name__ == "__main__":
    work(sys.argv[1])
