"""How busy a worker and its node are, from the counts that the kernel keeps."""

from collections.abc import Mapping
from pathlib import Path

CPU, MEMORY, MEMORY_SHARE = (
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "system_memory_usage_percentage",
)
"""Of the node, under the names that MLflow gives its own system metrics."""
WORKER_PEAK = "worker_peak_memory_megabytes"
"""The most that this worker has held since it began."""


class Meter:
    """Reads a node from within one of its processes."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._before = self._cpu()

    def read(self) -> Mapping[str, float]:
        """What can be had by name: CPU use since the last reading, memory now; nothing where there is no /proc."""
        now = self._cpu()
        busy, total = now[0] - self._before[0], now[1] - self._before[1]
        found = {CPU: 100 * busy / total} if total > 0 else {}
        self._before = now
        memory = self._kilobytes("meminfo")
        if {"MemTotal", "MemAvailable"} <= set(memory):
            used = memory["MemTotal"] - memory["MemAvailable"]
            found |= {MEMORY: used * 1024 / 1e6, MEMORY_SHARE: 100 * used / memory["MemTotal"]}
        if peak := self._kilobytes("self/status").get("VmHWM"):
            found[WORKER_PEAK] = peak * 1024 / 1e6
        return found

    def _cpu(self) -> tuple[int, int]:
        """Ticks in which the node's CPUs were busy, and all, since it was started."""
        try:
            ticks = [int(word) for word in (self._proc / "stat").read_text().split("\n")[0].split()[1:9]]
        except (OSError, ValueError):
            return 0, 0
        idle = sum(ticks[3:5])  # waiting for disks counts as idle
        return sum(ticks) - idle, sum(ticks)

    def _kilobytes(self, name: str) -> Mapping[str, int]:
        try:
            lines = (self._proc / name).read_text().splitlines()
        except OSError:
            return {}
        return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}
