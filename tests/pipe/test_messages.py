"""Tests that lines from a host are read if they fit the published schema, and raise ProtocolError otherwise."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecellm_lite.errors import EcellmError, ProtocolError
from ecellm_lite.pipe.lines import read_lines
from ecellm_lite.pipe.messages import LONGEST_LINE, Ask, Control, ask_line, control_line, read_message
from ecellm_lite.pipe.options import request_options
from ecellm_lite.tasks.questions import question_task
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.written import read_json
from tests.pipe.host import REQUEST

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
OPTION = st.sampled_from(
    ["stop", "logprobs", "instruction", "shorten", "min_probability", "seed", "max_tokens", "calibration", "nonsense"]
)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers() | st.text(max_size=300) | JSON,
        "type": st.sampled_from(["answer", "cancel", "ping", "tasks", "stats", "close", "x", None]),
        "task": st.sampled_from(["sentiment_analysis", "SA", ""]) | JSON,
        "row": JSON,
        "options": st.dictionaries(OPTION, JSON, max_size=3) | JSON,
        "extra": JSON,
    },
)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(line: bytes) -> None:
    try:
        message = read_message(line)
    except ProtocolError:
        return
    assert isinstance(message, Ask | Control)


@given(LIKELY)
@example({"task": "sentiment_analysis", "options": {"nonsense": None}, "id": 0, "row": None})
def test_reading_and_the_published_schema_agree(data: dict[str, Any]) -> None:
    try:
        message = read_message(json.dumps(data).encode())
        if isinstance(message, Ask):
            if not isinstance(message.task, str):
                question_task(message.task)
            options = request_options(get_task("sentiment_analysis"), message.options)
            assert options.get("space") is None
    except EcellmError:
        return
    likelihood = (data.get("options") or {}).get("min_probability")
    if likelihood is None or 0 <= likelihood <= 1:  # the answerer itself checks the range
        REQUEST.validate(data)


@pytest.mark.parametrize("calibration", ["", True, 1])
def test_what_is_no_path_of_a_calibration_is_refused(calibration: Any) -> None:
    with pytest.raises(ProtocolError) as error:
        request_options(get_task("SA"), {"calibration": calibration})
    assert error.value.field == "options.calibration"
    with pytest.raises(jsonschema.ValidationError):
        REQUEST.validate({"id": 1, "task": "SA", "row": {}, "options": {"calibration": calibration}})


def test_an_error_has_the_id_of_its_request() -> None:
    with pytest.raises(ProtocolError) as error:
        read_message(b'{"id": "a", "type": "nonsense"}')
    assert (error.value.id, error.value.field) == ("a", "type")


@pytest.mark.parametrize(
    ("line", "id_"),
    [
        (b'{"id": 7, "task": "SA", "row": {"a": 1, "a": 2}}', 7),
        (b' { "id" : "a\\"\\u00e4" , nonsense', 'a"ä'),
        (b'{"id": 7', None),
        (b'{"id": 7.5, nonsense', None),
        (b'{"id": 99999999999999999, nonsense', None),
        (b'{"task": "SA", "id": 7, nonsense', None),
        (b'{"id": "' + b"x" * 300 + b'", nonsense', None),
        (b'{"id": "\\x", nonsense', None),
    ],
)
def test_the_id_is_found_at_the_beginning_of_a_broken_line(line: bytes, id_: int | str | None) -> None:
    with pytest.raises(ProtocolError) as error:
        read_message(line)
    assert error.value.id == id_


@given(st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=256), JSON, st.dictionaries(st.text(max_size=8), JSON))
def test_requests_survive_a_round_trip(id_: int | str, row: Any, options: dict[str, Any]) -> None:
    ask = Ask(id_, "sentiment_analysis", row, options)
    assert read_message(ask_line(ask)) == ask
    assert read_message(control_line(Control(id_, "ping"))) == Control(id_, "ping")


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line)), st.integers(1, 17))
def test_lines_are_found_in_pieces_of_any_size(lines: list[bytes], size: int) -> None:
    data = memoryview(b"\n".join(lines))
    pieces = iter([bytes(data[start : start + size]) for start in range(0, len(data), size)])
    assert list(read_lines(lambda _: next(pieces, b""))) == [line for line in lines if line.strip()]


def test_only_the_beginning_of_an_endless_line_is_kept() -> None:
    pieces = iter([b"x" * (1 << 20)] * 40 + [b"\n{}"])
    long, short = read_lines(lambda _: next(pieces, b""))
    assert len(long) == LONGEST_LINE + 1
    assert short == b"{}"
    with pytest.raises(ProtocolError):
        read_message(long)


def test_a_row_means_the_same_through_a_pipe() -> None:
    row = read_json('{"title": 19.50, "feature": ["a", 1E3], "price": NaN, "attributes": [7]}')
    task = get_task("attribute_value_extraction")
    message = read_message(ask_line(Ask(1, task.name, row, {})))
    assert isinstance(message, Ask)
    assert task.question(message.row) == task.question(row)
    assert '"19.50"' in task.question(row).text
