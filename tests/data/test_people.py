"""The split is by person, whatever else there is."""

import numpy as np

from stages.data.people import differ_in_case, held_out_people, person_of


def people(number: int, start: int = 0) -> dict[str, bytes]:
    """One picture, unlike any other, of each of `number` people."""
    names = (f"Person_{index:05d}" for index in range(start, start + number))
    return {f"{name}/{name}_0001.jpg": name.encode() for name in names}


def test_held_out_is_about_the_fraction_of_people_asked_for() -> None:
    pictures = people(4000)
    for held_out in (0.08, 0.5):
        expected, deviation = 4000 * held_out, np.sqrt(4000 * held_out * (1 - held_out))
        assert abs(len(held_out_people(pictures, held_out)) - expected) < 4 * deviation
    assert held_out_people(pictures, 0.08) < held_out_people(pictures, 0.5)


def test_nobody_changes_sides_when_pictures_are_added() -> None:
    before = people(500)
    more = {f"{path[:-5]}2.jpg": content + b"2" for path, content in before.items()}
    after = people(500, start=500) | more | before
    old = {path.split("/")[0] for path in before}
    assert held_out_people(after, 0.3) & old == held_out_people(before, 0.3)
    assert held_out_people(dict(reversed(after.items())), 0.3) == held_out_people(after, 0.3)


def test_people_are_told_apart_by_letters_not_by_their_encoding() -> None:
    """As macOS writes letters beside others: a letter and an accent, or one letter."""
    names = [f"Zo\N{LATIN SMALL LETTER E WITH DIAERESIS} {index}" for index in range(200)]
    split = [name.replace("\N{LATIN SMALL LETTER E WITH DIAERESIS}", "e\u0308") for name in names]
    pictures = {f"{name}/a.jpg": name.encode() for name in [*names, *split]}
    assert set(map(person_of, pictures)) == set(names)
    assert held_out_people(pictures, 0.5) < set(names)
    assert differ_in_case(["Zoe", "zoe", "STRASSE", "Stra\xdfe", "Ann"]) == [
        *("STRASSE", "Stra\xdfe", "Zoe", "zoe")
    ]


def test_people_with_identical_pictures_follow_the_first_of_them() -> None:
    pictures = people(300)
    alone = held_out_people(pictures, 0.5)
    names = sorted(path.split("/")[0] for path in pictures)
    # Chains of three: the first shares a picture with the last, the last with the middle one.
    for first, middle, last in zip(names[::3], names[1::3], names[2::3], strict=True):
        pictures |= {f"{first}/{first}_0002.jpg": f"one {first}".encode()}
        pictures |= {f"{last}/{last}_0002.jpg": f"one {first}".encode()}
        pictures |= {f"{last}/{last}_0003.jpg": f"two {first}".encode()}
        pictures |= {f"{middle}/{middle}_0002.jpg": f"two {first}".encode()}
    linked = held_out_people(pictures, 0.5)
    for index, name in enumerate(names):
        assert (name in linked) == (names[index - index % 3] in alone)
    assert linked != alone
    assert held_out_people(dict(reversed(pictures.items())), 0.5) == linked


def test_pictures_in_no_folder_are_people_of_their_own() -> None:
    pictures = {f"{index}.jpg": str(index).encode() for index in range(200)}
    pictures |= {f"copy of {name}": content for name, content in pictures.items()}
    held = held_out_people(pictures, 0.5)
    assert 100 < len(held) < 300
    assert {name for name in held if not name.startswith("copy")} == {
        name.removeprefix("copy of ") for name in held
    }
