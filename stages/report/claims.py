"""What is asked of the numbers, and what they answer: the paper's nine claims and their verdicts.

A claim is a list of questions, each a comparison of two measured numbers. To add a claim, add an
entry of CLAIMS. Questions that came up when the results were known stand apart, and decide nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from stages.common.settings import WEIGHTS, Implementation, Weights
from stages.measure.measures import MEASURES
from stages.measure.records import Model, Record, Records
from stages.report.catalogue import PAPER, WEIGHTS_LABELS, absence, label, without_seeds
from stages.report.statistics import (
    ALPHA,
    Compared,
    Effect,
    Over,
    Relation,
    beats_mean_picture,
    common_seeds,
    compare,
    compare_spreads,
    holm,
)

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
    """One of the paper's claims: its evidence there, its questions, the figure to look at here."""

    number: int
    statement: str
    paper: str
    questions: tuple[Comparison | Spread, ...]
    figure: str = "figure6_reconstructions.png"


def _paper(*variants: str) -> str:
    """The paper's numbers for these models, as a sentence."""
    said = (f"{PAPER[variant].label} {PAPER[variant].printed}" for variant in variants)
    return f"Error: {'; '.join(said)}."


def _samples(variant: str, relation: Relation) -> Comparison:
    """How often a face is found in samples, beside real faces."""
    return Comparison(variant, relation, "faces_found", factor=FACES, split="samples")


RECURSIVE_MODELS = ("recursive", "recursive_bn", "recursive_shared_bn", "recursive_shared_bn_relu")
STACKED_MODELS = tuple(name.replace("recursive", "stacked") for name in RECURSIVE_MODELS)

CLAIMS = (
    Claim(
        1,
        "Without a norm, recursive is clearer than stacked",
        "By eye: “clearer and less blurry”.",
        (
            Comparison("recursive", "higher", "sharpness", "stacked"),
            Comparison("recursive", "not lower", "ssim", "stacked"),
        ),
    ),
    Claim(
        2,
        "Recursive is somewhat grainier than stacked",
        "By eye: “a bit of extra graininess”.",
        (Comparison("recursive", "higher", "grid_ratio", "stacked"),),
    ),
    Claim(
        3,
        "Recursive has a slightly lower error than stacked",
        _paper("recursive", "stacked"),
        (Comparison("recursive", "lower", "error", "stacked"),),
        figure="figure5_errors.png",
    ),
    Claim(
        4,
        "Batch norm ruins recursive: washed-out pictures",
        "By eye: “completely washed out”. " + _paper("recursive_bn", "recursive"),
        (
            Comparison("recursive_bn", "higher", "error", "recursive", factor=RUINED),
            Comparison("recursive_bn", "lower", "contrast_ratio", "recursive"),
        ),
    ),
    Claim(
        5,
        "Batch norm raises the error of both",
        _paper("recursive_bn", "recursive", "stacked_bn", "stacked"),
        (
            Comparison("recursive_bn", "higher", "error", "recursive"),
            Comparison("stacked_bn", "higher", "error", "stacked"),
        ),
        figure="figure5_errors.png",
    ),
    Claim(
        6,
        "Shared norm rescues recursive: clear, at a higher error",
        "By eye: clearer than stacked, “not as grainy” as recursive without a norm. "
        + _paper("recursive_shared_bn", "recursive_bn", "recursive", "stacked"),
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
        (
            _samples("stacked_vae", "higher"),
            Comparison("stacked_vae", "lower", "high_frequency_ratio", factor=BLURRED),
            _samples("recursive_vae", "lower"),
        ),
        figure="figure4_samples.png",
    ),
    Claim(
        9,
        "Recursive is more sensitive to small changes",
        _paper("recursive", "recursive_bn", "recursive_shared_bn_relu", "stacked", "stacked_bn"),
        (
            Spread(RECURSIVE_MODELS, STACKED_MODELS, "variants"),
            Spread(RECURSIVE_MODELS, STACKED_MODELS, "seeds"),
        ),
        figure="depth.png",
    ),
)

WITHOUT_SHARED = Spread(
    RECURSIVE_MODELS[:2], STACKED_MODELS[:2], "variants", "no norm and batch norm"
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
        "Claim 8 compares trainings that weigh the divergence differently: beside the error summed "
        "over what a loss recreates, it weighs 64 times less in recursive training. With the "
        "other's weight:",
        (
            _samples("stacked_vae_weight_of_recursive", "higher"),
            _samples("recursive_vae_weight_of_stacked", "lower"),
        ),
    ),
    (
        "The paper suggests upsampling and max pooling for recursive training. The same, stacked:",
        tuple(
            Comparison(f"recursive_{change}", "lower", "error", f"stacked_{change}")
            for change in ("nearest", "bilinear", "maxpool")
        ),
    ),
    (
        "The running statistics of a shared norm may fail in evaluation where training is stacked "
        "(see claim 9), and widen that spread. Without those models:",
        (WITHOUT_SHARED, replace(WITHOUT_SHARED, over="seeds")),
    ),
)

SEEN_SEEDS = frozenset(range(3))  # looked at before there was a rule
EARLY_SEEDS = frozenset(range(5))  # looked at before any others were trained
# With fewer held-out people nothing is decided. Intervals over images take their pictures for
# people in general; of 20 independent pictures an interval that says 95 % holds 93 %, of 5 it
# holds 85 %.
FEWEST_PEOPLE = 20

HOLDS, FAILS = "holds", "does not hold"
ONLY_RELEASED, UNDECIDED = "holds only as released", "undecided"
ANSWERS = {True: "yes", False: "no", None: "unclear"}


@dataclass(frozen=True)
class Finding:
    """The answer to a question: "yes", "no", "unclear" or "missing"; the numbers, in words; the
    p-value, None where it is missing; and what was compared, where it was."""

    question: Comparison | Spread
    evidence: str
    answer: str
    p: float | None = None
    effect: Effect | None = field(default=None, compare=False)

    @property
    def compared(self) -> Compared | None:
        """None where the models cannot be compared, or on one seed."""
        return self.effect.compared if self.effect else None


@dataclass(frozen=True)
class Judgement:
    """The answers to a claim's questions, for one kind of weights, and the verdict they give."""

    claim: Claim
    weights: Weights
    described: list[Finding]
    released: list[Finding]

    @property
    def verdict(self) -> str:
        holds = _all_yes(self.described)
        if holds is False and _all_yes(self.released):
            return ONLY_RELEASED
        return {None: UNDECIDED, True: HOLDS, False: FAILS}[holds]

    @property
    def deciding(self) -> Finding:
        """The first answer as described that is no, else unclear, else missing, else the first."""
        order = ("no", "unclear", "missing", "yes")
        return min(self.described, key=lambda finding: order.index(finding.answer))


Verdicts = dict[Weights, list[Judgement]]  # in the order of the claims


def judge_all(records: Records) -> Verdicts:
    return {weights: judge(records, weights) for weights in WEIGHTS}


def judge(records: Records, weights: Weights, claims: Sequence[Claim] = CLAIMS) -> list[Judgement]:
    """The verdict on each of the claims, in their order."""

    def answers(claim: Claim, implementation: Implementation) -> list[Finding]:
        return [answer(one, records, implementation, weights) for one in claim.questions]

    return [
        Judgement(claim, weights, answers(claim, "described"), answers(claim, "released"))
        for claim in claims
    ]


def corrected(judgements: Sequence[Judgement]) -> list[Judgement]:
    """The same with Holm's correction over all questions of each implementation: answers whose
    corrected p-value is larger than ALPHA become unclear."""
    described = _corrected([each.described for each in judgements])
    released = _corrected([each.released for each in judgements])
    return [
        replace(each, described=one, released=other)
        for each, one, other in zip(judgements, described, released, strict=True)
    ]


def _corrected(findings: Sequence[list[Finding]]) -> list[list[Finding]]:
    p = iter(holm([one.p for each in findings for one in each if one.p is not None]))

    def correct(one: Finding) -> Finding:
        if one.p is None:
            return one
        adjusted = next(p)
        return replace(one, p=adjusted, answer=one.answer if adjusted <= ALPHA else ANSWERS[None])

    return [[correct(one) for one in each] for each in findings]


# By kind of weights and reading of the numbers, the verdict on each claim; the first reading, "",
# is that of `judge`.
Readings = dict[Weights, dict[str, list[str]]]


def robustness(
    verdicts: Verdicts, records: Records, others: Mapping[str, Records] = MappingProxyType({})
) -> Readings:
    """The verdict on each claim under each reading of the numbers: with all seeds, which is that of
    `verdicts`, with Holm's correction, on the seeds that were seen later, where there are any, and
    of `others`, by name."""
    later = {}
    for seen in (SEEN_SEEDS, EARLY_SEEDS):
        rest = without_seeds(records, seen)
        if seeds := {seed for record in rest.found.values() for seed in record.seeds}:
            later[f"on seeds {min(seeds)} to {max(seeds)}"] = rest
    table: Readings = {}
    for weights, judgements in verdicts.items():
        readings = {"": judgements, "with Holm's correction": corrected(judgements)}
        readings |= {name: judge(one, weights) for name, one in {**later, **others}.items()}
        table[weights] = {name: [*map(_verdict, judged)] for name, judged in readings.items()}
    return table


def _verdict(judgement: Judgement) -> str:
    """A verdict that lacks answers is none, unless one of the others decides it."""
    missing = [one.answer == "missing" for one in judgement.described]
    if any(missing) and judgement.verdict == UNDECIDED:
        return "not measured" if all(missing) else "not all measured"
    return judgement.verdict


def dependence(readings: Readings) -> list[str]:
    """Of each claim the readings that give another verdict than the first, in words.

    *Holds only as released* counts as *does not hold* here: some readings have no such models.
    """
    return [_turned(readings, place) for place in range(len(CLAIMS))]


def _turned(readings: Readings, place: int) -> str:
    turned: dict[tuple[str, str], list[str]] = {}  # by verdict and reading: of which weights
    for weights, by_name in readings.items():
        usual = by_name[""][place].replace(ONLY_RELEASED, FAILS)
        for name, verdicts in by_name.items():
            verdict = verdicts[place]
            if verdict.replace(ONLY_RELEASED, FAILS) != usual and "measured" not in verdict:
                turned.setdefault((verdict, name), []).append(WEIGHTS_LABELS[weights])
    told: dict[str, dict[str, list[str]]] = {}
    for (verdict, name), labels in turned.items():
        of = "both" if len(labels) == len(WEIGHTS) else labels[0]
        told.setdefault(of, {}).setdefault(verdict, []).append(name)
    return "; ".join(
        f"{of}: " + "; ".join(f"{verdict} {', '.join(names)}" for verdict, names in own.items())
        for of, own in told.items()
    )


def answer(
    question: Comparison | Spread,
    records: Records,
    implementation: Implementation,
    weights: Weights,
) -> Finding:
    """What the models of one implementation and kind of weights answer."""
    models = [Model(variant, implementation, weights) for variant in question.variants]
    if lacking := _lacking(records, models):
        return Finding(question, lacking, "missing")
    found = [records.found[model] for model in models]
    if not common_seeds(*found):
        return Finding(question, "no seed in common", "missing")
    diverged = [
        f"{len(record.diverged)} of {len(record.seeds)} seeds of {record.model.variant} diverged"
        for record in found
        if record.diverged
    ]
    if isinstance(question, Spread):
        relation: Relation = "higher"
        half = len(question.first)
        effect = compare_spreads(found[:half], found[half:], question.over)
        lack = "fewer than two seeds in common"
    else:
        relation = question.relation
        second = found[1] if question.reference else records.references
        effect = compare(question.measure, found[0], second, question.split, question.factor)
        lack = f"{MEASURES[question.measure].label} was not measured"
    if effect is None:
        if diverged:
            return Finding(question, "; ".join(diverged), "unclear", 1.0)
        return Finding(question, lack, "missing")
    evidence = [str(effect), *diverged]
    if reason := _undecidable(records, found):
        return Finding(question, "; ".join([*evidence, reason]), "unclear", 1.0, effect)
    side, p = effect.found(relation)
    if effect.seeds:
        of = "equal, " if side == "equal" else "smallest " if side is None else ""
        evidence.append(of + ("p below 0.001" if p < 0.001 else f"p = {p:.2g}"))
    agreement = effect.agreement(relation)
    if agreement is not None and effect.n > 1:
        evidence.append(f"chance that one seed agrees: {agreement:.0%}")
    if side is None:
        evidence.append(effect.seeds_needed)
    return Finding(question, "; ".join(evidence), ANSWERS[effect.is_(relation)], p, effect)


def _undecidable(records: Records, models: Sequence[Record]) -> str:
    """Why these models decide nothing, whatever they differ by; "" where they may."""
    if records.people is not None and records.people < FEWEST_PEOPLE:
        what = "groups of pictures" if records.dataset == "own" else "people"
        return f"undecided: {records.people} held-out {what}, fewer than {FEWEST_PEOPLE}"
    if all(beats_mean_picture(model, records.references) is False for model in models):
        return (
            f"undecided: {'neither' if len(models) == 2 else 'no'} model is better than the mean "
            "picture"
        )
    return ""


def _lacking(records: Records, models: Sequence[Model]) -> str:
    reasons: dict[str, list[str]] = {}
    for model in models:
        if model not in records.found:
            reasons.setdefault(absence(records, model), []).append(model.variant)
    return "; ".join(f"{', '.join(lacking)}: {reason}" for reason, lacking in reasons.items())


def _all_yes(findings: Sequence[Finding]) -> bool | None:
    answers = {finding.answer for finding in findings}
    return False if "no" in answers else True if answers == {"yes"} else None
