"""How busy a node is, read from the kernel's counts."""

from pathlib import Path

import pytest

from sweep.actors.usage import CPU, MEMORY, MEMORY_SHARE, WORKER_PEAK, Meter


def write(proc: Path, user: int, idle: int) -> None:
    (proc / "self").mkdir(parents=True, exist_ok=True)
    (proc / "stat").write_text(f"cpu  {user} 0 0 {idle} 0 0 0 0 7 7\ncpu0 1 2 3 4 5 6 7 8 0 0\nintr 5\n")
    (proc / "meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable:   6000000 kB\nHugePages_Total: 0\n")
    (proc / "self" / "status").write_text("Name:\tpython\nVmHWM:\t  500000 kB\nThreads:\t3\n")


def test_a_reading_says_what_happened_since_the_last(tmp_path: Path) -> None:
    write(tmp_path, user=100, idle=100)
    meter = Meter(tmp_path)
    assert CPU not in meter.read()  # no time has passed
    write(tmp_path, user=130, idle=110)
    reading = meter.read()
    assert reading == {
        CPU: pytest.approx(75),
        MEMORY: pytest.approx(2048),
        MEMORY_SHARE: pytest.approx(25),
        WORKER_PEAK: pytest.approx(512),
    }


def test_a_machine_without_such_counts_has_no_readings(tmp_path: Path) -> None:
    assert Meter(tmp_path).read() == {}


def test_this_machine_tells_of_itself() -> None:
    reading = Meter().read()
    assert 0 < reading[MEMORY_SHARE] < 100
    assert reading[WORKER_PEAK] > 10
