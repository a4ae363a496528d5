"""Who is held out: the split is by person, so that nobody is on both sides."""

import hashlib
from collections.abc import Iterable, Mapping
from unicodedata import normalize


def person_of(name: str) -> str:
    """Of a picture's name, the first folder; where it lies in none, the picture itself.

    In Unicode's form NFC: macOS writes the same letters in another one.
    """
    return normalize("NFC", name.split("/")[0])


def differ_in_case(people: Iterable[str]) -> list[str]:
    """Those who would be one person if capital and small letters were the same, sorted."""
    alike: dict[str, list[str]] = {}
    for person in people:
        alike.setdefault(person.casefold(), []).append(person)
    return sorted(person for names in alike.values() if len(names) > 1 for person in names)


def held_out_people(pictures: Mapping[str, bytes], held_out: float) -> set[str]:
    """The people whose pictures are never trained on: about `held_out` (0 to 1) of all.

    pictures: of each name, the bytes or a digest of them. A hash of the person's name decides, so
    nobody changes sides when pictures are added. People who share a byte-identical picture all
    follow the alphabetically first of them.
    """
    leader: dict[str, str] = {}  # of a person: someone earlier in the alphabet, or themselves

    def first(person: str) -> str:
        while leader[person] != person:
            person = leader[person]
        return person

    owner: dict[bytes, str] = {}  # of a picture: the first person it was seen with
    for name, picture in pictures.items():
        person = person_of(name)
        leader.setdefault(person, person)
        twin = owner.setdefault(picture, person)
        early, late = sorted((first(person), first(twin)))
        leader[late] = early
    return {person for person in leader if _fraction(first(person)) < held_out}


def _fraction(name: str) -> float:
    """A number in [0, 1) that depends on nothing but the name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48
