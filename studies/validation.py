"""A validation part of the training people, for every choice that is made by looking."""

import hashlib
from dataclasses import replace

import numpy as np

from stages.data.faces import Faces

FRACTION = 0.1


def validation(faces: Faces) -> Faces:
    """The training faces alone, a tenth of their people (by a hash of the name) held out of them.

    The held-out people of the project are not among them: nothing is chosen by looking at those.
    """
    held_out = [
        person
        for person in np.unique(faces.people)
        if hashlib.sha256(f"validation/{person}".encode()).digest()[0] < 256 * FRACTION
    ]
    splits = np.where(np.isin(faces.people, held_out), "test", "train")
    return replace(faces, splits=np.where(faces.splits == "test", "unused", splits))
