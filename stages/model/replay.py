"""A training step on a GPU as one graph of all its operations."""

import sys
from collections.abc import Callable

import torch


class Replayed:
    """A function of no arguments on a GPU, from its fourth call on replayed as one graph.

    A step launches hundreds of small kernels, and launching them takes longer than they run. The
    first calls run on a stream of their own, as capturing a graph demands of whatever it captures.
    """

    EAGER = 3

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.calls = 0
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.graph: torch.cuda.CUDAGraph | None = torch.cuda.CUDAGraph()

    def __call__(self) -> None:
        self.calls += 1
        if self.graph is None:
            self.function()
        elif self.calls <= self.EAGER:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.function()
            torch.cuda.current_stream().wait_stream(self.stream)
        else:
            if self.calls == self.EAGER + 1:
                self._capture(self.graph)
            if self.graph is not None:
                self.graph.replay()

    def _capture(self, graph: torch.cuda.CUDAGraph) -> None:
        try:
            with torch.cuda.graph(graph):
                self.function()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            print(f"training goes on without replayed steps ({reason})", file=sys.stderr)
            self.graph = None
            self.function()
