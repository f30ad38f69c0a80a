from __future__ import annotations

import signal

import pytest

from protomask.engine.stop import StopRequest


def test_second_signal_stops_at_once() -> None:
    former = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert not stop.requested()
        # Called, not signalled: a process with other threads may get a signal a moment later, when nobody expects it.
        handler = signal.getsignal(signal.SIGINT)
        assert callable(handler)
        handler(signal.SIGINT, None)
        assert stop.requested()
        with pytest.raises(KeyboardInterrupt):
            handler(signal.SIGINT, None)
    assert signal.getsignal(signal.SIGINT) is former
