"""What the display prints where the output is no terminal, and what it draws on one."""

import io

from rich.console import Console

from sweep.terminal.progress import Display


def test_plain_lines_tell_stage_total_and_what_was_stored_before() -> None:
    output = io.StringIO()
    with Display(Console(file=output, width=100)) as display:
        display.stage("images", 1, 1)
        display.finish()
        display.stage("masking", 10, 4)
        for _ in range(3):
            display.advance(2)
        display.finish()
    lines = output.getvalue().splitlines()
    assert lines[0] == "images: 1/1, stored before"
    assert lines[1] == "masking: 4/10 stored"
    assert lines[-1].startswith("masking: 10/10, done in ")
    assert len(lines) == 3


def test_a_terminal_shows_a_bar_per_stage_with_rate() -> None:
    output = io.StringIO()
    with Display(Console(file=output, force_terminal=True, width=100)) as display:
        display.stage("masking", 10, 4)
        display.advance(6)
        display.finish()
    last = output.getvalue()
    assert "masking" in last
    assert "10/10" in last
    assert "/s" in last
