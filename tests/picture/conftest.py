"""The first noise of a diffusers pipeline."""

import pytest
import torch


@pytest.fixture(scope="session")
def first_noise():
    """first_noise(seed) -> the latents [1, 4, 8, 8] from which a pipeline draws what we draw of a seed."""

    def make(seed: int) -> torch.Tensor:
        # diffusers' scheduler starts at noise * sigma; ComfyUI's KSampler and we at variance 1 + sigma^2.
        sigma = 14.6146
        return (
            torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
            * (1 + sigma**2) ** 0.5
            / sigma
        )

    return make
