"""YAML from anywhere is values, the same as dvc's, or one line."""

from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml as dvc_s

from stages.common.errors import PipelineError
from stages.common.yaml_files import parse_yaml, read_yaml, to_yaml


@pytest.mark.parametrize(
    "text",
    ["a: [010, 0o17, 1_000, 1e-5, 1e-05, 1.0e-5]", "1e5: 1", "a: yes", "a: &x [1]\nb: *x"],
)
def test_values_are_those_of_dvc(text: str) -> None:
    assert parse_yaml(text.encode(), "file") == dvc_s(text, "file")


NESTED = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\na: 2", 'found duplicate key "a"'),
        ("a: 2024-99-99", "month must be in 1..12"),
        ("a: !!bool maybe", "maybe"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        (f"a: {'9' * 5000}", "a value of more than 1,000 characters, line 1"),
        (f"a: {'[' * 3000}{']' * 3000}", "more than 20 levels, line 1"),
        (f"a: {'[' * 400_000}", "more than 20 levels, line 1"),
        (NESTED, "an alias within an anchor, line 2"),
        ("a: &a [*a]", "an alias within an anchor, line 1"),
        ("a: 1\n" * 300_000, "it has more than 1,048,576 bytes"),
        ("a: [1, 2", "did not find expected ',' or ']', line 2"),
        ("a: \0", "unacceptable character"),
        ("a: \udcff", "can't decode byte 0xff"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_refused_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(PipelineError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be read as YAML: ") and reason in message
    assert "\n" not in message and len(message) < 400


def test_what_is_written_is_read_as_it_was() -> None:
    values = {"text": ["1e5", "yes", "0o17", "010", "~", "a: b"], "number": [1e-5, 10, None, True]}
    assert parse_yaml(to_yaml(values).encode(), "file") == values
