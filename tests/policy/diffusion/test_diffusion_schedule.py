"""Noise schedules: closed forms, and what the samplers have in common."""

from __future__ import annotations

import pytest
import torch

from vla_bench.policy.diffusion.design import Diffusion
from vla_bench.policy.diffusion.schedule import Schedule, betas_of

SHAPE = (2, 8, 7)


def noise(count: int) -> list[torch.Tensor]:
    return list(torch.randn((count, *SHAPE), generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("betas", ["squaredcos_cap_v2", "linear", "scaled_linear"])
def test_every_step_adds_noise(betas):
    diffusion = Diffusion(betas=betas)
    found = betas_of(diffusion)
    assert found.shape == (100,)
    assert ((found > 0) & (found < 1)).all()
    assert (Schedule(diffusion).remaining.diff() < 0).all()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "ddpm_single"])
@pytest.mark.parametrize("steps", [1, 7, 100])
@pytest.mark.parametrize("predicts", ["epsilon", "sample"])
def test_who_knows_the_actions_gets_them_back(sampler, steps, predicts):
    schedule = Schedule(Diffusion(sampler=sampler, steps=steps, predicts=predicts))
    clean = torch.linspace(-0.9, 0.9, 7).expand(SHAPE)

    def knows(actions: torch.Tensor, step: int) -> torch.Tensor:
        kept = schedule.remaining[step]
        return clean if predicts == "sample" else (actions - kept**0.5 * clean) / (1 - kept) ** 0.5

    found = schedule.sample(knows, noise(schedule.draws))
    torch.testing.assert_close(found, clean, atol=2e-3, rtol=0)


def test_fresh_noise_is_drawn_at_every_step_but_the_last():
    assert Schedule(Diffusion(sampler="ddim", steps=10)).draws == 1
    assert Schedule(Diffusion(sampler="ddpm", steps=10)).draws == 10
    assert Schedule(Diffusion(sampler="ddpm", steps=16)).steps == [i * 6 for i in reversed(range(16))]
    # as diffusers did it before 0.12: one step more than was asked for
    assert len(Schedule(Diffusion(sampler="ddpm_single", steps=16)).steps) == 17


def test_both_ways_to_write_ddpm_agree_where_no_step_is_left_out():
    def predict(actions: torch.Tensor, step: int) -> torch.Tensor:
        return 0.3 * actions + 0.01 * step

    samples = [
        Schedule(Diffusion(sampler=sampler)).sample(predict, noise(100))
        for sampler in ("ddpm", "ddpm_single")
    ]
    torch.testing.assert_close(*samples, atol=1e-4, rtol=0)


def test_noise_for_training_is_what_sampling_takes_out():
    schedule = Schedule(Diffusion())
    clean, (drawn,) = torch.zeros(SHAPE), noise(1)
    noisy = schedule.with_noise(clean, drawn, torch.tensor([0, 99]))
    assert noisy[0].std() < 0.1 < 0.9 < noisy[1].std()
