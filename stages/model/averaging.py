"""The exponential moving average of a model's weights over the steps of its training."""

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor

from stages.model.losses import losses
from stages.model.network import Autoencoder, Norm


class Average:
    """`model` is the average of `source` over its updates, `decay` of it kept at each.

    Starts as the source stands at the first update; then average = decay * average + (1 - decay) *
    source. The same numbers as torch.optim.swa_utils.AveragedModel with
    get_ema_multi_avg_fn(decay), without its walk through the modules at every step. The running
    statistics of norms are not averaged: see `recalibrate`.
    """

    def __init__(self, source: Autoencoder, decay: float) -> None:
        self.model = deepcopy(source).requires_grad_(False).eval()
        self.decay = decay
        self.started = False
        # What they share of memory with the models: whatever changes there is seen here.
        self.averages, self.sources = (
            list[Tensor](model.parameters()) for model in (self.model, source)
        )

    @torch.no_grad()
    def update(self) -> None:
        if self.started:
            torch._foreach_lerp_(self.averages, self.sources, 1 - self.decay)
        else:
            torch._foreach_copy_(self.averages, self.sources)
            self.started = True

    @torch.no_grad()
    def recalibrate(self, batches: Iterable[Tensor], stacked: bool) -> None:
        """Set the norms' running statistics to their means over batches of images, in the pass
        that trains them: what the averaged weights make of pictures is not the average of what the
        weights of single steps made of them. A norm that this pass uses twice a batch, shared and
        trained end to end, weighs its two halves alike and later batches more.
        """
        norms = [module for module in self.model.modules() if isinstance(module, Norm)]
        if not norms:
            return
        before = norms[0].momentum
        self.model.train()
        with torch.random.fork_rng():  # so that a variational model's draws move no training
            for number, images in enumerate(batches, start=1):
                for norm in norms:
                    norm.momentum = 1 / number
                losses(self.model, images, stacked)
        self.model.eval()
        for norm in norms:
            norm.momentum = before
