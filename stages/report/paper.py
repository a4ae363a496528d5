"""What the paper gives: the error of each model, its order and its words. Ray and Hannon, 2022."""

from dataclasses import dataclass

from stages.common.settings import CANDIDATE, Implementation, Weights


@dataclass(frozen=True)
class PaperModel:
    """One model of the paper and its error, the squared error summed over an image's 49,152 values.

    `table1` is printed in Table 1, `figure5` is read off the labels of Figure 5's pictures: two
    draws of 100 training images each, one training run. None where the paper gives no number.
    """

    label: str
    table1: int | None
    figure5: int | None
    note: str = ""

    @property
    def errors(self) -> list[int]:
        """The numbers that are the paper's measurement of this very model, lowest first."""
        table1 = None if self.note else self.table1
        return sorted(error for error in (table1, self.figure5) if error is not None)

    @property
    def printed(self) -> str:
        """All that the paper prints for this model, with the places."""
        places = ((self.table1, "Table 1"), (self.figure5, "Figure 5"))
        return ", ".join(f"{value} ({place})" for value, place in places if value is not None)


# In the order of Table 1, then the variational autoencoders of Figure 4.
PAPER = {
    "recursive_bn": PaperModel("recursive, batch norm", 7831, 8336),
    "stacked_bn": PaperModel("stacked, batch norm", 467, 373),
    "stacked": PaperModel("stacked", 258, 197),
    "recursive": PaperModel("recursive", 239, 186),
    "stacked_shared_bn": PaperModel("stacked, shared norm", 643, 528),
    "recursive_shared_bn": PaperModel("recursive, shared norm", 455, 337),
    "stacked_shared_bn_relu": PaperModel(
        "stacked, shared norm, ReLU", 643, 483, note="Table 1 repeats the number of the SELU model"
    ),
    "recursive_shared_bn_relu": PaperModel("recursive, shared norm, ReLU", 2020, 1955),
    "stacked_vae": PaperModel("stacked VAE", None, 421),
    "recursive_vae": PaperModel("recursive VAE", None, 3979),
}

IMPLEMENTATION_LABELS: dict[Implementation, str] = {
    "described": "as described",
    "released": "as released",
}
WEIGHTS_LABELS: dict[Weights, str] = {"last_step": "last step", "averaged": "averaged"}


def label(variant: str) -> str:
    """What tables and figures call a variant: the paper's words, or its name in params.yaml."""
    return PAPER[variant].label if variant in PAPER else variant


def rank(variant: str) -> tuple[int, str]:
    """Sorts variants: the paper's in its order, the candidate, then all others by name."""
    order = [*PAPER, CANDIDATE]
    return order.index(variant) if variant in order else len(order), variant
