from __future__ import annotations

import os
import signal

import pytest

from protomask.engine.stop import StopRequest


def test_second_signal_stops_at_once() -> None:
    former = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert not stop.requested()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is former
