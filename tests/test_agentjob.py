import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercompress.errors import AgentError, DiskFullError
from fercompress.measure.agentjob import check_exit, parse_answer
from fercompress.measure.channel import Completed

GOOD = {"schema": 1, "nonce": "n", "ok": True, "reason": "", "clip_ns": [1, 2], "facts": {"cpu": "x"}, "memory_bytes": {"peak": 5}}


def test_an_answer_is_read_and_what_it_does_not_hold_is_empty():
    answer = parse_answer(json.dumps(GOOD).encode(), "n")
    assert (answer.ok, answer.clip_ns, answer.memory_bytes, answer.frame_ns, answer.power) == (True, [1, 2], {"peak": 5}, [], {})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"schema": 2}, "schema"),
        ({"clip_ns": [1.5]}, r"clip_ns\.0"),
        ({"clip_ns": "12"}, "clip_ns"),
        ({"ok": 1}, "ok"),
        ({"memory_bytes": {"peak": "5"}}, "memory_bytes.peak"),
        ({"new key": 1}, "new key"),
        ({"result": "../../etc/passwd"}, "result"),
        ({"clip_ns": [-1]}, r"clip_ns\.0"),
        ({"clip_ns": [86_400 * 10**9 + 1]}, r"clip_ns\.0"),
        ({"memory_bytes": {"peak": 10**30}}, "is no number"),
        ({"power": {"power_w": float("nan")}}, "NaN is no number"),
        ({"facts": {"x": float("inf")}}, "Infinity is no number"),
        ({"facts": {"x": "y" * 2_000_000}}, "facts"),
        ({"nonce": "other"}, "belongs to another job"),
    ],
)
def test_an_answer_of_another_form_or_to_another_job_is_refused(changed, message):
    with pytest.raises(AgentError, match=message):
        parse_answer(json.dumps({**GOOD, **changed}).encode(), "n")


@given(st.binary() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(lambda value: json.dumps(value).encode()))
def test_no_text_but_an_answer_passes(text):
    with pytest.raises(AgentError):
        parse_answer(text, "n")


@pytest.mark.parametrize("code", [0, 3])
def test_a_job_that_came_to_its_end_has_an_answer(code):
    check_exit(Completed(code, b"", b""))


@pytest.mark.parametrize(
    ("code", "stderr", "kind", "message"),
    [
        (4, b"no space left on the target: x", DiskFullError, "no space left on the target: x; free some"),
        (-9, b"", AgentError, "the agent was ended by SIGKILL; was the target out of memory?"),
        (-11, b"", AgentError, "the agent was ended by SIGSEGV"),
        (-64, b"", AgentError, "the agent was ended by "),
        (1, b"Traceback\nValueError: \xff", AgentError, "the agent broke with exit code 1: ValueError: \ufffd"),
        (127, b"", AgentError, "the agent broke with exit code 127: it said nothing"),
    ],
)
def test_every_other_end_is_told_in_one_line(code, stderr, kind, message):
    with pytest.raises(kind) as caught:
        check_exit(Completed(code, b"", stderr))
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1
