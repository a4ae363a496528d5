"""Who is held out: the split is by person, so that nobody is on both sides."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from unicodedata import normalize


def person_of(name: str) -> str:
    """The first folder in a picture's name, or the whole name where there is none. In Unicode's
    form NFC: macOS writes the same letters in another form."""
    return normalize("NFC", name.split("/")[0])


def differ_in_case(people: Iterable[str]) -> list[str]:
    """The names that differ from another one only in the case of letters, sorted."""
    people = [*people]
    count = Counter(map(str.casefold, people))
    return sorted(person for person in people if count[person.casefold()] > 1)


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
    digests = {person: hashlib.sha256(first(person).encode()).digest() for person in leader}
    # The first 48 bits are a number in [0, 1).
    return {p for p, digest in digests.items() if int.from_bytes(digest[:6]) / 2**48 < held_out}
