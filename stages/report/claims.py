"""The paper's nine claims, and what each one asks of the numbers. Adding a claim is one entry.

A claim is a list of questions, each a comparison of two measured numbers; `rule` answers them.
Questions that came up when the results were known stand apart, and decide nothing.
"""

from dataclasses import dataclass
from typing import get_args

from stages.measure.measures import MEASURES
from stages.report.catalogue import PAPER, label
from stages.report.comparisons import Over
from stages.report.effect import Relation

RUINED = 2.0  # times the error of the model it is compared with
FACES = 0.5  # of the detector's rate on real faces
BLURRED = 0.5  # of the input's fraction of high frequencies


@dataclass(frozen=True)
class Comparison:
    """`measure` of a variant is higher, lower or not lower than `factor` times that of another.

    Without a reference that is the input.
    """

    variant: str
    relation: Relation
    measure: str
    reference: str | None = None
    factor: float = 1.0
    split: str = "test"

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.variant, self.reference) if self.reference else (self.variant,)

    @property
    def question(self) -> str:
        than = label(self.reference) if self.reference else "the input"
        times = f"{self.factor:g} times that of " if self.factor != 1 else ""
        of = "samples of " if self.split == "samples" else ""
        if not self.reference and not of:
            of = "reconstructions of "
        what = MEASURES[self.measure].label
        return f"{what} of {of}{label(self.variant)} {self.relation} than {times}{than}"


@dataclass(frozen=True)
class Spread:
    """The errors of `first` spread more than those of `second`, over "seeds" or "variants".

    which: of the models these are, where it is not all.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    over: Over
    which: str = ""

    @property
    def variants(self) -> tuple[str, ...]:
        return self.first + self.second

    @property
    def question(self) -> str:
        which = f" ({self.which})" if self.which else ""
        return f"spread of the error over {self.over} higher for recursive than for stacked{which}"


@dataclass(frozen=True)
class Claim:
    """One of the paper's claims: its evidence there, the figure to look at here, its questions."""

    number: int
    statement: str
    paper: str
    figure: str
    questions: tuple[Comparison | Spread, ...]


def _paper(*variants: str) -> str:
    """The paper's numbers for these models, as a sentence."""
    said = (f"{PAPER[variant].label} {PAPER[variant].printed}" for variant in variants)
    return f"Error: {'; '.join(said)}."


RECURSIVE_MODELS = ("recursive", "recursive_bn", "recursive_shared_bn", "recursive_shared_bn_relu")
STACKED_MODELS = tuple(name.replace("recursive", "stacked") for name in RECURSIVE_MODELS)

CLAIMS = (
    Claim(
        1,
        "Without a norm, recursive is clearer than stacked",
        "By eye: “clearer and less blurry”.",
        "figure6_reconstructions.png",
        (
            Comparison("recursive", "higher", "sharpness", "stacked"),
            Comparison("recursive", "not lower", "ssim", "stacked"),
        ),
    ),
    Claim(
        2,
        "Recursive is somewhat grainier than stacked",
        "By eye: “a bit of extra graininess”.",
        "figure6_reconstructions.png",
        (Comparison("recursive", "higher", "grid_ratio", "stacked"),),
    ),
    Claim(
        3,
        "Recursive has a slightly lower error than stacked",
        _paper("recursive", "stacked"),
        "figure5_errors.png",
        (Comparison("recursive", "lower", "error", "stacked"),),
    ),
    Claim(
        4,
        "Batch norm ruins recursive: washed-out pictures",
        "By eye: “completely washed out”. " + _paper("recursive_bn", "recursive"),
        "figure6_reconstructions.png",
        (
            Comparison("recursive_bn", "higher", "error", "recursive", factor=RUINED),
            Comparison("recursive_bn", "lower", "contrast_ratio", "recursive"),
        ),
    ),
    Claim(
        5,
        "Batch norm raises the error of both",
        _paper("recursive_bn", "recursive", "stacked_bn", "stacked"),
        "figure5_errors.png",
        (
            Comparison("recursive_bn", "higher", "error", "recursive"),
            Comparison("stacked_bn", "higher", "error", "stacked"),
        ),
    ),
    Claim(
        6,
        "Shared norm rescues recursive: clear, at a higher error",
        "By eye: clearer than stacked, “not as grainy” as recursive without a norm. "
        + _paper("recursive_shared_bn", "recursive_bn", "recursive", "stacked"),
        "figure6_reconstructions.png",
        (
            Comparison("recursive_shared_bn", "lower", "error", "recursive_bn"),
            Comparison("recursive_shared_bn", "higher", "sharpness", "stacked"),
            Comparison("recursive_shared_bn", "not lower", "ssim", "stacked"),
            Comparison("recursive_shared_bn", "lower", "grid_ratio", "recursive"),
            Comparison("recursive_shared_bn", "higher", "error", "recursive"),
            Comparison("recursive_shared_bn", "higher", "error", "stacked"),
        ),
    ),
    Claim(
        7,
        "ReLU with shared norm fails, with a grid pattern",
        "By eye: “not very face-like”, “a grid pattern”. "
        + _paper("recursive_shared_bn_relu", "recursive_shared_bn"),
        "figure6_reconstructions.png",
        (
            Comparison(
                "recursive_shared_bn_relu", "higher", "error", "recursive_shared_bn", factor=RUINED
            ),
            Comparison("recursive_shared_bn_relu", "higher", "grid_ratio", "recursive_shared_bn"),
        ),
    ),
    Claim(
        8,
        "Stacked VAE samples are blurry faces, recursive ones none",
        "By eye: “blurry”; “did not look like human faces at all”.",
        "figure4_samples.png",
        (
            Comparison("stacked_vae", "higher", "faces_found", factor=FACES, split="samples"),
            Comparison("stacked_vae", "lower", "high_frequency_ratio", factor=BLURRED),
            Comparison("recursive_vae", "lower", "faces_found", factor=FACES, split="samples"),
        ),
    ),
    Claim(
        9,
        "Recursive is more sensitive to small changes",
        _paper("recursive", "recursive_bn", "recursive_shared_bn_relu", "stacked", "stacked_bn"),
        "depth.png",
        (
            Spread(RECURSIVE_MODELS, STACKED_MODELS, "variants"),
            Spread(RECURSIVE_MODELS, STACKED_MODELS, "seeds"),
        ),
    ),
)

# How else the paper's words may be read, with the reason to ask.
AFTERWARDS: tuple[tuple[str, tuple[Comparison | Spread, ...]], ...] = (
    (
        "The abstract says that shared batch normalization “slightly improved” the clarity of what "
        "recursive training without a norm gives; claim 6 compares with stacked.",
        (
            Comparison("recursive_shared_bn", "higher", "sharpness", "recursive"),
            Comparison("recursive_shared_bn", "not lower", "ssim", "recursive"),
        ),
    ),
    (
        "“A grid pattern”, “not very face-like”: claim 7 compares with the model with SELU, which "
        "may have a grid of its own.",
        (
            Comparison("recursive_shared_bn_relu", "higher", "grid_ratio", "recursive"),
            Comparison("recursive_shared_bn_relu", "lower", "faces_found", factor=FACES),
        ),
    ),
    (
        "The running statistics of a shared norm may fail in evaluation where training is stacked "
        "(see claim 9), and widen that spread. Without those models:",
        tuple(
            Spread(RECURSIVE_MODELS[:2], STACKED_MODELS[:2], over, "no norm and batch norm")
            for over in get_args(Over)
        ),
    ),
)
