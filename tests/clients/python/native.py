"""Native sessions, by the commands of the `tidewire` binary."""

import json
import os
import queue
import subprocess
import threading

PATIENCE_S = 30


def tidewire(*arguments):
    """Runs a command against the server; the values that it prints."""
    output = subprocess.run([os.environ["TIDEWIRE_BIN"], *arguments], capture_output=True, text=True, timeout=PATIENCE_S)
    if output.returncode != 0:
        raise AssertionError(f"tidewire {arguments}: {output.stderr}")
    return [json.loads(line) for line in output.stdout.splitlines() if line.startswith("{")]


class Watch:
    """What a native session that is subscribed to a branch is told, from the moment that every shard knows of it."""

    # Enough of them that there is one on every shard.
    _MARKERS = 8

    def __init__(self, root):
        markers = {f"{root}/ready/{number}" for number in range(self._MARKERS)}
        for marker in markers:
            tidewire("set", marker, "true", "--type", "json")
        self._process = subprocess.Popen([os.environ["TIDEWIRE_BIN"], "sub", f"?{root}//"], stdout=subprocess.PIPE, text=True)
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        while markers:
            markers.discard(self.next_value()[0])

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def next(self):
        return self._lines.get(timeout=PATIENCE_S)

    def next_value(self):
        """The path, type and value of the next value, past what else there is."""
        while True:
            line = self.next()
            if line["event"] == "value":
                return line["path"], line["type"], line["value"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()
