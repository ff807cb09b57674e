"""Streams that outlast their readers."""

import os
import sys
from pathlib import Path
from typing import TextIO, cast

from rich.console import Console

from sweep.terminal.lasting import LastingStream
from sweep.terminal.progress import Display


def test_text_arrives_as_long_as_anyone_reads() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        lasting = LastingStream(stream)
        assert lasting.write("one\n") == 4
        lasting.flush()
        assert os.read(reader, 10) == b"one\n"
        os.close(reader)
        for _ in range(3):
            lasting.write("two\n")
            lasting.flush()
        stream.write("written past it, as the interpreter does at its end")


def test_a_display_goes_on_where_its_disk_is_full_and_tells_the_rest_later(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Path("/dev/full").open("w") as stream:
        display = Display(Console(file=cast(TextIO, LastingStream(stream))))
        display.say("lost for now")
        with log.open("w") as room:
            os.dup2(room.fileno(), stream.fileno())
        display.say("told")
        stream.flush()
    assert log.read_text().endswith("told\n")


def test_it_is_the_stream_in_all_else() -> None:
    assert LastingStream(sys.stderr).isatty() == sys.stderr.isatty()
