"""The exponential moving average of a model's weights over the steps of its training."""

from copy import deepcopy

import torch

from stages.model.network import Autoencoder, state


class Average:
    """`model` is the average of `source` over its updates, `decay` of it kept at each.

    Starts as the source stands at the first update; then average = decay * average + (1 - decay) *
    source, running statistics of norms included. The same numbers as
    torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn(decay) and use_buffers, without
    its walk through the modules at every step.
    """

    def __init__(self, source: Autoencoder, decay: float) -> None:
        self.model = deepcopy(source).requires_grad_(False).eval()
        self.decay = decay
        self.started = False
        # Views of both models' memory: whatever changes there is seen here.
        self.averages, self.sources = (list(state(m).values()) for m in (self.model, source))

    @torch.no_grad()
    def update(self) -> None:
        if self.started:
            torch._foreach_lerp_(self.averages, self.sources, 1 - self.decay)
        else:
            torch._foreach_copy_(self.averages, self.sources)
            self.started = True
