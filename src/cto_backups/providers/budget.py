"""How many further tries there are, for all that one client does."""

import threading


class Budget:
    """What all threads together may spend on further tries: a service that is down is not asked six times by each."""

    def __init__(self, tries: int = 100) -> None:
        self._most = self._left = float(tries)
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Take one further try, if there is one."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def earn(self) -> None:
        """An answer came at once: a tenth of a try more."""
        with self._lock:
            self._left = min(self._left + 0.1, self._most)
