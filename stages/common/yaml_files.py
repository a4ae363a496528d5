"""YAML as dvc reads it, version 1.2, within limits: any file gives values or a one-line error."""

import io
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from stages.common.errors import PipelineError

BYTES, DEPTH, SCALAR = 2**20, 20, 1000


def read_yaml(path: str | Path) -> object:
    """The values in a file: dict, list, str, int, float, bool, None, or what a tag asks for. Raises
    PipelineError where there is no file, or as `parse_yaml` does."""
    try:
        with open(path, "rb") as file:
            content = file.read(BYTES + 1)
    except FileNotFoundError:
        raise PipelineError(f"{path} does not exist here; run from the repository's root") from None
    return parse_yaml(content, path)


def parse_yaml(content: bytes, name: object) -> object:
    """The values in UTF-8 text, which errors call `name`.

    Raises PipelineError for what is no YAML, a key that is given twice, an alias within an anchor
    (such aliases double at each step, or never end), and values that are too large or too deep.
    """
    try:
        if len(content) > BYTES:
            raise ValueError(f"it has more than {BYTES:,} bytes")
        text = content.decode("utf-8")
        _check_limits(text)
        return YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        reason = f"{error.problem or error.context}{line}"
    except Exception as error:  # a tag's constructor may raise anything
        reason = str(error)
    raise PipelineError(f"{name} cannot be read as YAML: {' '.join(reason.split())[:200]}")


def to_yaml(values: object) -> str:
    """Text that `parse_yaml` and dvc read as these values, keys in alphabetical order."""
    yaml, stream = YAML(typ="safe"), io.StringIO()
    yaml.default_flow_style = False
    yaml.dump(values, stream)
    return stream.getvalue()


def _check_limits(text: str) -> None:
    """Raise ValueError before values are made: deep ones end the process, aliases may not end."""
    anchored: list[bool] = []  # of each collection that is open
    for event in YAML(typ="safe").parse(text):
        line = event.start_mark.line + 1
        if isinstance(event, CollectionStartEvent):
            anchored.append(event.anchor is not None)
        elif isinstance(event, CollectionEndEvent):
            anchored.pop()
        elif isinstance(event, AliasEvent) and any(anchored):
            raise ValueError(f"an alias within an anchor, line {line}")
        elif isinstance(event, ScalarEvent) and len(event.value) > SCALAR:
            raise ValueError(f"a value of more than {SCALAR:,} characters, line {line}")
        if len(anchored) > DEPTH:
            raise ValueError(f"more than {DEPTH} levels, line {line}")
