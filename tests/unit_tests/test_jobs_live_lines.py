"""Live lines stay below whatever else is printed, and leave nothing behind."""

from __future__ import annotations

import io
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from langchain_tokenhub.jobs import live_lines as module
from langchain_tokenhub.jobs import progress
from langchain_tokenhub.jobs.live_lines import (
    Bar,
    LiveLines,
    bar_line,
    clock,
    display_width,
    truncate,
)
from langchain_tokenhub.jobs.models import Job

_CODES = re.compile(r"\x1b\[(\d*)([AJ])|\x1b([D78])")


class Screen(io.StringIO):
    """A terminal of a few columns and lines, and the text that it shows."""

    encoding = "utf-8"

    def __init__(self, columns=40, lines=8):
        super().__init__()
        self.size = os.terminal_size((columns, lines))
        self.rows = [[]]
        self.row = self.column = 0
        self.saved = 0, 0
        self.scrolled = 0

    def isatty(self):
        return True

    def write(self, text):
        position = 0
        while position < len(text):
            if found := _CODES.match(text, position):
                self._obey(found)
                position = found.end()
            else:
                self._print(text[position])
                position += 1
        return len(text)

    def _obey(self, found):
        match found.group(2) or found.group(3):
            case "A":
                self.row = max(self.scrolled, self.row - int(found.group(1) or 1))
                self.column = min(self.column, self.size.columns - 1)
            case "J":
                del self.rows[self.row][self.column :]
                del self.rows[self.row + 1 :]
            case "D":
                self._down()
            case "7":
                self.saved = self.row - self.scrolled, self.column
            case "8":
                self.row, self.column = self.saved[0] + self.scrolled, self.saved[1]

    def _down(self):
        self.row += 1
        self.scrolled = max(self.scrolled, self.row - self.size.lines + 1)
        while len(self.rows) <= self.row:
            self.rows.append([])

    def _print(self, character):
        if character in "\r\n":
            self.column = 0
            return self._down() if character == "\n" else None
        width = display_width(character)
        if self.column + width > self.size.columns:
            self.column = 0
            self._down()
        row = self.rows[self.row]
        row.extend(" " * (self.column - len(row)))
        row[self.column : self.column + width] = [character, *[""] * (width - 1)]
        self.column += width
        return None

    def say(self, text, end="\n", stream="stdout"):
        print(text, end=end, file=getattr(self.sys, stream))

    @property
    def text(self):
        return "\n".join("".join(row).rstrip() for row in self.rows).rstrip()


@pytest.fixture
def screen(monkeypatch):
    """The terminal of a program; pytest exchanges the streams of `sys` itself."""
    made = Screen()
    made.sys = SimpleNamespace(stdout=made, stderr=made, modules={}, platform="linux")
    monkeypatch.setenv("TERM", "xterm")
    for user in (module, progress):
        monkeypatch.setattr(user, "sys", made.sys)
    monkeypatch.setattr(module, "terminal_size", lambda _stream: made.size)
    monkeypatch.setattr(module, "_INTERVAL", 3600)
    return made


def line(text):
    return lambda _columns: text


def job(**fields):
    return Job(**{"kind": "video", "model": "hy-video-1.5", "id": "1461558553872389712", **fields})


def test_text_goes_above_the_lines(screen):
    one, two = line("one"), line("two")
    module.live_lines.add(one)
    module.live_lines.add(two)
    screen.say("hello")
    assert screen.text == "hello\n\none\ntwo"
    screen.say("warned", stream="stderr")
    assert screen.text == "hello\nwarned\n\none\ntwo"
    module.live_lines.remove(one)
    module.live_lines.remove(two)
    assert screen.text == "hello\nwarned"


def test_tokens_stream_above_a_line(screen):
    bar = line("bar")
    module.live_lines.add(bar)
    for count, token in enumerate(
        tokens := list("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。" * 5), 1
    ):
        screen.say(token, end="")
        shown, _, last = screen.text.rpartition("\n")
        assert last == "bar"
        assert "".join(shown.split()) == "".join(tokens[:count])
    module.live_lines.remove(bar)
    screen.say("\nend")
    assert screen.text.endswith("\nend")


@pytest.mark.parametrize("width", [39, 40, 41, 80])
def test_a_text_that_ends_at_the_edge_loses_nothing(screen, width):
    bar = line("bar")
    module.live_lines.add(bar)
    for part in ("x" * (width - 1), "y", "\n", "z\n"):
        screen.say(part, end="")
    module.live_lines.remove(bar)
    assert screen.text.replace("\n", "") == "x" * (width - 1) + "yz"
    assert screen.text.endswith("\nz")


def test_the_last_state_of_a_line_stays_on_a_line_of_its_own(screen):
    bar = line("bar")
    module.live_lines.add(bar)
    screen.say("half a sent", end="")
    module.live_lines.remove(bar, keep=True)
    screen.say("ence")
    assert screen.text == "half a sent\nbar\nence"


def test_the_streams_are_the_programs_own_again(screen):
    bar = line("bar")
    module.live_lines.add(bar)
    above = screen.sys.stdout
    module.live_lines.remove(bar)
    assert screen.sys.stdout is screen.sys.stderr is screen
    print("kept by a redirection", file=above)
    assert screen.text == "kept by a redirection"


def test_lines_beyond_the_height_of_the_terminal_are_not_drawn(screen):
    many = [line(str(number)) for number in range(20)]
    for one in many:
        module.live_lines.add(one)
    screen.say("hello")
    assert screen.text == "hello\n\n0\n1\n2\n3\n4\n5"
    for one in many:
        module.live_lines.remove(one)
    assert screen.text == "hello"


def test_a_line_that_is_too_long_is_cut(screen):
    bar = line("长" * 30)
    module.live_lines.add(bar)
    assert screen.text.endswith("长" * 18 + "…")
    module.live_lines.remove(bar)


@pytest.mark.parametrize(
    ("text", "cut"), [("abc", "abc"), ("abcdef", "abcd…"), ("春眠不", "春眠…")]
)
def test_truncation_counts_columns(text, cut):
    assert truncate(text, 5) == cut


def test_nothing_is_live_in_a_file(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert LiveLines().add(line("bar")) is False


def test_nothing_is_live_on_a_terminal_without_cursor_codes(screen, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert LiveLines().add(line("bar")) is False


def test_a_forked_child_prints(screen):
    bar = line("bar")
    module.live_lines.add(bar)
    module.live_lines.reset()
    screen.say("child")
    assert "child" in screen.text


# --- the bar of a job -----------------------------------------------------------------------------


def test_a_bar_shows_the_services_percent(screen):
    bar = Bar("video  hy-video-1.5", 90)
    bar(job(status="in_progress", progress=50, submitted_at=datetime.now(UTC)))
    assert bar._draw(79) == "video  hy-video-1.5  ████████████░░░░░░░░░░░░   50 %  0:00 / ~1:30"
    bar.close()


@pytest.mark.parametrize(("seconds", "before"), [(0, 0), (2, 8), (5, 20), (6, 16), (10, 0)])
def test_without_a_percentage_a_block_moves_to_and_fro(screen, seconds, before):
    bar = Bar("3d", 90)
    bar(job(submitted_at=datetime.now(UTC) - timedelta(seconds=seconds)))
    assert bar._draw(79).startswith(f"3d  {'░' * before}{'█' * 4}{'░' * (20 - before)}  0:")
    bar.close()


def test_the_seconds_of_a_resumed_job_are_the_jobs(screen):
    bar = Bar("video", 90)
    bar(job(submitted_at=datetime.now(UTC) - timedelta(seconds=3700)))
    assert "1:01:40 / ~1:30" in bar._draw(79)
    bar.close()


def test_a_completed_job_leaves_its_bar_and_an_interrupted_one_nothing(screen):
    done, going = Bar("done", 90), Bar("going", 90)
    done(job(status="completed", submitted_at=datetime.now(UTC)))
    going(job(submitted_at=datetime.now(UTC)))
    going.close()
    done.close()
    assert screen.text == f"done  {'█' * 20}  100 %  0:00"


def test_a_failed_job_says_so(screen):
    bar = Bar("video", 90)
    bar(job(status="failed", submitted_at=datetime.now(UTC)))
    assert bar._draw(79).endswith("failed  0:00")
    bar.close()


def test_in_a_file_each_state_is_a_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    bar = Bar("video  hy-video-1.5", 90)
    for status in ("queued", "queued", "completed"):
        bar(job(status=status))
    bar.close()
    assert log.getvalue().splitlines() == [
        "video  hy-video-1.5  queued  1461558553872389712",
        "video  hy-video-1.5  completed  1461558553872389712",
    ]


def test_a_bar_is_ascii_where_blocks_cannot_be_written(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert bar_line("video", 0.5, "50 %", 79) == "video  ############------------  50 %"


def test_a_bar_fits_a_narrow_terminal():
    assert display_width(bar_line("video  hy-video-1.5", 0.5, "50 %  0:41", 40)) == 40


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3661, "1:01:01")])
def test_a_clock_reads_minutes_and_seconds(seconds, text):
    assert clock(seconds) == text
