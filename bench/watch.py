"""How much memory a process and its children hold while they run."""

import threading
from collections.abc import Iterable

import psutil


class Watch:
    """Within `with`, the peak of the resident memory of processes and their children, in MB.

    A page that several processes map, as the faces are, counts once where the system tells (Linux),
    else once for each. `interval`: seconds between two looks, each some milliseconds of a core.
    """

    def __init__(self, pids: Iterable[int], interval: float = 0.2) -> None:
        self.interval = interval
        self.roots = [psutil.Process(pid) for pid in pids]
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._stop.is_set():
            total = 0
            for root in self.roots:
                try:
                    for process in (root, *root.children(recursive=True)):
                        memory = process.memory_full_info()
                        total += getattr(memory, "pss", memory.rss)
                except psutil.NoSuchProcess:
                    continue  # it has just ended
            self.peak_mb = max(self.peak_mb, total / 2**20)
            self._stop.wait(self.interval)
