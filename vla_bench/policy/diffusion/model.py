"""The whole network: observations and an instruction in, noise out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from vla_bench.policy.diffusion.design import Design
from vla_bench.policy.diffusion.encoder import ObservationEncoder
from vla_bench.policy.diffusion.language import Bytes, Words
from vla_bench.policy.diffusion.schedule import Schedule
from vla_bench.policy.diffusion.unet import UNet

# Small layers whose errors reach everything; convolutions are never quantised.
NOT_QUANTISED = ("encoder", "unet.diffusion_step_encoder")

# texts → (B, size)
EncodeText = Callable[[Sequence[str]], Tensor]


class DiffusionNet(nn.Module):
    """Encoder of observations and the network that predicts noise.

    What an instruction becomes is appended once to the features of the history. Words that are learnt belong
    to the network; any other encoder of text is given to `condition`.
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        self.encoder = ObservationEncoder(design)
        self.unet = UNet(design.network, design.action_size, design.condition)
        language = design.language
        if language is not None and language.encoder == "words":
            self.language = Words(language.buckets, language.size)
        elif language is not None and language.encoder == "bytes":
            self.language = Bytes(language)

    @classmethod
    def on_meta(cls, design: Design) -> DiffusionNet:
        """Return the network with names and shapes, but without memory for its weights."""
        with torch.device("meta"):
            return cls(design).eval()

    @property
    def not_quantised(self) -> tuple[str, ...]:
        """Names of the parts that stay at any precision."""
        return (*NOT_QUANTISED, "language") if hasattr(self, "language") else NOT_QUANTISED

    @property
    def dtype(self) -> torch.dtype:
        """Type of what passes between layers."""
        return self.unet.final_conv[1].weight.dtype  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.unet.final_conv[1].weight.device  # type: ignore[return-value]

    def features(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Key → (B × history, …), normalised → (B, history × features)."""
        ours = {key: value.to(self.dtype) for key, value in observations.items()}
        return self.encoder(ours).reshape(-1, self.design.history * self.design.features)

    def condition(
        self, observations: Mapping[str, Tensor], texts: Sequence[str], encode: EncodeText | None = None
    ) -> Tensor:
        """Return the (B, condition) numbers that B histories and their instructions become."""
        return self.told(self.features(observations), texts, encode)

    def told(self, features: Tensor, texts: Sequence[str], encode: EncodeText | None = None) -> Tensor:
        """(B, history × features) and B instructions → (B, condition)."""
        encode = getattr(self, "language", encode)
        if self.design.language is None or encode is None:
            return features
        return torch.cat([features, encode(texts).to(features)], -1)

    def denoise(self, condition: Tensor, noise: Sequence[Tensor], schedule: Schedule) -> Tensor:
        """(B, condition) and `schedule.draws` arrays (B, horizon, A) → one of them in float32, normalised."""

        def predict(actions: Tensor, step: int) -> Tensor:
            steps = torch.full((len(actions),), step, device=actions.device)
            return self.unet(actions.to(self.dtype), steps, condition).float()

        return schedule.sample(predict, noise)
