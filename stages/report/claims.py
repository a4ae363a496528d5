"""The paper's nine claims, what each one asks of the numbers, and the rule that answers it.

A claim is a list of parts, each a comparison of two measured numbers. A part is answered "yes" or
"no" only where neither other held-out images nor other seeds would change the answer; a claim holds
where every part is answered "yes", does not where one is answered "no".
"""

from dataclasses import dataclass

from stages.report.comparisons import (
    CONFIDENCE,
    DRAWS,
    ONE_SEED_DIFFERENCE,
    ONE_SEED_RATIO,
    SAME_DIFFERENCE,
    SAME_RATIO,
    SEED_DEVIATIONS,
    SHARES,
    Effect,
    common_seeds,
    compare_errors,
    compare_measures,
    compare_spreads,
)
from stages.report.paper import PAPER
from stages.measure.records import MEASURES, Results, label
from stages.common.settings import PUBLISHED

RUINED = 2.0  # times the error of the model it is compared with
FACES = 0.5  # of the detector's rate on real faces
BLURRED = 0.5  # of the input's share of high frequencies

RULES = f"""\
- Two models are compared seed by seed (the same seed gives both the same order of images and, but
  for the published wiring with a norm, the same initial weights) and image by image on the held-out
  set: the ratio of their errors, averaged over seeds on the log scale. Shares
  ({", ".join(sorted(SHARES))}) are compared by their difference.
- Two intervals go with it. Over *images*, {CONFIDENCE:.0%}: for the error a bootstrap of {DRAWS}
  draws, the same images for both models; else from the standard errors. Over *seeds*:
  {SEED_DEVIATIONS:g} standard deviations either way, where another seed is likely to land (for the
  spread over seeds, {CONFIDENCE:.0%} by Fisher's F). With one seed this cannot be known and is
  taken as a factor of {ONE_SEED_RATIO:g} either way (shares: {ONE_SEED_DIFFERENCE}), so that only
  an overwhelming difference counts.
- *Higher* or *lower* counts only where both intervals lie on that side. *Not lower* counts where
  both stay above {1 / SAME_RATIO - 1:.0%} (shares: {-SAME_DIFFERENCE}). A difference that both
  intervals keep within {SAME_RATIO - 1:.0%} is none. Anything else is *unclear*.
- *Clearer* is sharpness higher and SSIM not lower. Sharpness is h or 1/h, whichever is at most 1,
  with h the share of high frequencies over the input's. *Grainy* is a higher grid ratio, *washed
  out* a lower contrast. *Ruined* and *fails* mean more than {RUINED:g} times the error, *faces*
  more than {FACES:.0%} of the detector's rate on real held-out faces, *blurry* less than
  {BLURRED:.0%} of the input's share of high frequencies.
- A claim **holds** where all its parts do with the wiring that the paper describes, and **does not
  hold** where one does not; it **holds only with the published wiring** where it does not hold as
  described but all its parts do with the authors' wiring. Otherwise it is **not decidable**."""


@dataclass(frozen=True)
class Finding:
    """One part of a claim: its question, "yes", "no", "unclear" or "missing", and the numbers."""

    question: str
    evidence: str
    answer: str


ANSWERS = {True: "yes", False: "no", None: "unclear"}


@dataclass(frozen=True)
class Part:
    """`measure` of `model` is higher, lower or not lower than `factor` times that of `reference`.

    Without `reference` it is compared with the input: see `compare_measures`.
    """

    model: str
    relation: str
    measure: str
    reference: str | None = None
    factor: float = 1.0
    split: str = "test"

    def judge(self, results: Results, prefix: str) -> Finding:
        names = [prefix + name for name in (self.model, self.reference) if name]
        than = label(self.reference) if self.reference else "the input"
        times = f"{self.factor:g} times that of " if self.factor != 1 else ""
        of = "samples of " if self.split == "samples" else ""
        what = MEASURES[self.measure]
        question = f"{what} of {of}{label(self.model)} {self.relation} than {times}{than}"
        if lacking := _lacking(results, names):
            return Finding(question, lacking, "missing")
        first = results.found[names[0]]
        second = results.found[names[1]] if self.reference else None
        if second and not common_seeds(first, second):
            return Finding(question, "no seed in common", "missing")
        if self.measure == "error" and second:
            effect: Effect | None = compare_errors(first, second)
        else:
            effect = compare_measures(self.measure, first, second, self.split, self.factor)
        if effect is None:
            return Finding(question, f"{what} was not measured", "missing")
        return Finding(question, str(effect), ANSWERS[effect.is_(self.relation, self.factor)])


@dataclass(frozen=True)
class Spread:
    """The errors of `first` spread more than those of `second`, over "seeds" or "variants"."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    over: str

    def judge(self, results: Results, prefix: str) -> Finding:
        names = [prefix + name for name in (*self.first, *self.second)]
        question = f"spread of the error over {self.over} higher for recursive than for stacked"
        if lacking := _lacking(results, names):
            return Finding(question, lacking, "missing")
        models = [results.found[name] for name in names]
        half = len(self.first)
        effect = compare_spreads(models[:half], models[half:], self.over)
        if effect is None:
            return Finding(question, "fewer than two seeds in common", "missing")
        return Finding(question, str(effect), ANSWERS[effect.is_("higher")])


def _lacking(results: Results, names: list[str]) -> str:
    reasons: dict[str, list[str]] = {}
    for name in names:
        if name not in results.found:
            reasons.setdefault(results.absence(name), []).append(name)
    return "; ".join(f"{', '.join(lacking)}: {reason}" for reason, lacking in reasons.items())


@dataclass(frozen=True)
class Claim:
    """One of the paper's claims: its evidence there, the figure to look at here, its parts."""

    number: int
    statement: str
    paper: str
    figure: str
    parts: tuple[Part | Spread, ...]


def _paper(*names: str) -> str:
    """The paper's numbers for these models, as a sentence."""
    said = []
    for name in names:
        paper = PAPER[name]
        values = [
            f"{value} ({place})"
            for value, place in ((paper.table1, "Table 1"), (paper.figure5, "Figure 5"))
            if value is not None
        ]
        said.append(f"{paper.label} {', '.join(values)}")
    return f"Error: {'; '.join(said)}."


RECURSIVE = ("recursive", "recursive_bn", "recursive_shared_bn", "recursive_shared_bn_relu")
STACKED = tuple(name.replace("recursive", "stacked") for name in RECURSIVE)

CLAIMS = (
    Claim(
        1,
        "Without a norm, recursive is clearer than stacked",
        "By eye: “clearer and less blurry”.",
        "figure6_reconstructions.png",
        (
            Part("recursive", "higher", "sharpness", "stacked"),
            Part("recursive", "not lower", "ssim", "stacked"),
        ),
    ),
    Claim(
        2,
        "Recursive is somewhat grainier than stacked",
        "By eye: “a bit of extra graininess”.",
        "figure6_reconstructions.png",
        (Part("recursive", "higher", "grid_ratio", "stacked"),),
    ),
    Claim(
        3,
        "Recursive has a slightly lower error than stacked",
        _paper("recursive", "stacked"),
        "figure5_errors.png",
        (Part("recursive", "lower", "error", "stacked"),),
    ),
    Claim(
        4,
        "Batch norm ruins recursive: washed-out pictures",
        "By eye: “completely washed out”. " + _paper("recursive_bn", "recursive"),
        "figure6_reconstructions.png",
        (
            Part("recursive_bn", "higher", "error", "recursive", factor=RUINED),
            Part("recursive_bn", "lower", "contrast_ratio", "recursive"),
        ),
    ),
    Claim(
        5,
        "Batch norm raises the error of both",
        _paper("recursive_bn", "recursive", "stacked_bn", "stacked"),
        "figure5_errors.png",
        (
            Part("recursive_bn", "higher", "error", "recursive"),
            Part("stacked_bn", "higher", "error", "stacked"),
        ),
    ),
    Claim(
        6,
        "Shared norm rescues recursive: clear, at a higher error",
        "By eye: clearer than stacked, “not as grainy” as recursive without a norm. "
        + _paper("recursive_shared_bn", "recursive_bn", "recursive", "stacked"),
        "figure6_reconstructions.png",
        (
            Part("recursive_shared_bn", "lower", "error", "recursive_bn"),
            Part("recursive_shared_bn", "higher", "sharpness", "stacked"),
            Part("recursive_shared_bn", "not lower", "ssim", "stacked"),
            Part("recursive_shared_bn", "lower", "grid_ratio", "recursive"),
            Part("recursive_shared_bn", "higher", "error", "recursive"),
            Part("recursive_shared_bn", "higher", "error", "stacked"),
        ),
    ),
    Claim(
        7,
        "ReLU with shared norm fails, with a grid pattern",
        "By eye: “not very face-like”, “a grid pattern”. "
        + _paper("recursive_shared_bn_relu", "recursive_shared_bn"),
        "figure6_reconstructions.png",
        (
            Part(
                "recursive_shared_bn_relu", "higher", "error", "recursive_shared_bn", factor=RUINED
            ),
            Part("recursive_shared_bn_relu", "higher", "grid_ratio", "recursive_shared_bn"),
        ),
    ),
    Claim(
        8,
        "Stacked VAE samples are blurry faces, recursive ones none",
        "By eye: “blurry”; “did not look like human faces at all”.",
        "figure4_samples.png",
        (
            Part("stacked_vae", "higher", "faces_found", factor=FACES, split="samples"),
            Part("stacked_vae", "lower", "high_frequency_ratio", factor=BLURRED),
            Part("recursive_vae", "lower", "faces_found", factor=FACES, split="samples"),
        ),
    ),
    Claim(
        9,
        "Recursive is more sensitive to small changes",
        _paper("recursive", "recursive_bn", "recursive_shared_bn_relu", "stacked", "stacked_bn"),
        "depth.png",
        (Spread(RECURSIVE, STACKED, "variants"), Spread(RECURSIVE, STACKED, "seeds")),
    ),
)

HOLDS, FAILS = "holds", "does not hold"
ONLY_PUBLISHED, UNDECIDED = "holds only with the published wiring", "not decidable"


@dataclass(frozen=True)
class Judgement:
    """A claim, the answers to its parts for either wiring, and the verdict they give."""

    claim: Claim
    described: list[Finding]
    published: list[Finding]

    @property
    def verdict(self) -> str:
        described = _all_yes(self.described)
        if described is None:
            return UNDECIDED
        if described:
            return HOLDS
        return ONLY_PUBLISHED if _all_yes(self.published) else FAILS


def _all_yes(findings: list[Finding]) -> bool | None:
    answers = {finding.answer for finding in findings}
    return False if "no" in answers else True if answers == {"yes"} else None


def judge(results: Results, claims: tuple[Claim, ...] = CLAIMS) -> list[Judgement]:
    """The verdict on each of the claims, in their order."""
    return [
        Judgement(
            claim,
            described=[part.judge(results, "") for part in claim.parts],
            published=[part.judge(results, PUBLISHED) for part in claim.parts],
        )
        for claim in claims
    ]
