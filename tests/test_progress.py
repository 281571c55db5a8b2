import contextlib
import signal

import pytest
from rich.console import Console

from fercompress.progress import Reporter


@pytest.fixture
def tell():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test in a shell's background ignores Ctrl-C
    with Reporter(Console(stderr=True)) as tell:
        yield tell
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def swallowed() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_interrupts_at_once(tell):
    with pytest.raises(KeyboardInterrupt), tell.stage("work"):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_that_something_swallowed_interrupts_at_the_next_sign_of_progress(tell):
    with tell.stage("work", total=2) as bar:
        bar.advance()
        swallowed()
        with pytest.raises(KeyboardInterrupt):
            bar.advance()
        with pytest.raises(KeyboardInterrupt):
            bar.done(2)
    with pytest.raises(KeyboardInterrupt), tell.stage("more work"):
        pytest.fail("a new stage began")


def test_a_programs_own_way_with_ctrl_c_stays():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with Reporter(Console(stderr=True)) as tell, tell.stage("work") as bar:
            signal.raise_signal(signal.SIGINT)
            bar.advance()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [1]
