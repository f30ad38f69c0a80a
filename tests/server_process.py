"""`protomask serve` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading


class Server:
    """A server in a process of its own; ``said`` are the lines of its standard error.

    Args:
        arguments: of `protomask serve`.
        variables: of its environment, besides those of this process.

    """

    def __init__(self, *arguments: str, **variables: str) -> None:
        command = [sys.executable, "-m", "protomask", "serve", *arguments, "--port", "0"]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ, **variables}
        )
        self.said: list[str] = []
        self._heard = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        self.address = self.wait_for("serving ").rpartition(" ")[2].strip()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._heard:
                self.said.append(line)
                self._heard.notify_all()

    def wait_for(self, text: str) -> str:
        with self._heard:
            assert self._heard.wait_for(lambda: any(text in line for line in self.said), 120), self.said
            return next(line for line in self.said if text in line)

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
