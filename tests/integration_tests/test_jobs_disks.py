"""Disks that are full, over their quota or read-only, and ledgers that somebody else wrote."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from langchain_tokenhub import errors
from langchain_tokenhub.tools import TokenHubImageTool, TokenHubJobTool, TokenHubVideoTool

READ_ONLY = Path("/proc/tokenhub")
"""Nobody may make this folder, not even root."""
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="no /proc there")


class Disk:
    """Takes nothing while it is full, and says so when data is flushed."""

    def __init__(self, code):
        self._code = code
        self._flush = os.fsync
        self.full = False

    def fsync(self, handle):
        if self.full:
            raise OSError(self._code, os.strerror(self._code))
        self._flush(handle)


@pytest.fixture(params=[errno.ENOSPC, errno.EDQUOT], ids=["full", "quota"])
def disk(request, monkeypatch):
    made = Disk(request.param)
    monkeypatch.setattr(os, "fsync", made.fsync)
    return made


def files_in(folder):
    return sorted(
        file.name for file in folder.rglob("*") if file.is_file() and file.name != ".lock"
    )


# --- before the submit ----------------------------------------------------------------------------


def test_a_full_disk_under_the_ledger_is_reported_and_leaves_no_call(hub, call, tmp_path, disk):
    tool = TokenHubVideoTool(ledger=tmp_path)
    disk.full = True
    for verb in ("generate", "submit"):
        with pytest.raises(errors.InvalidRequestError, match="ledger cannot be used") as caught:
            call(tool, verb, prompt="猫")
        assert caught.value.phase == "not sent"
    assert hub.requests == []
    assert files_in(tmp_path) == []
    disk.full = False
    assert call(tool, "generate", prompt="猫").files


@needs_proc
def test_a_read_only_folder_is_reported_before_money_is_spent(hub, call):
    tool = TokenHubVideoTool(ledger=READ_ONLY)
    for verb in ("generate", "submit"):
        with pytest.raises(errors.InvalidRequestError, match="ledger cannot be used") as caught:
            call(tool, verb, prompt="猫")
        assert caught.value.phase == "not sent"
    assert hub.requests == []


def test_who_leaves_while_the_ledger_is_written_leaves_no_call_that_may_have_been_charged(
    hub, tmp_path, monkeypatch
):
    writing, goes_on, written = threading.Event(), threading.Event(), threading.Event()
    flush = os.fsync

    def slow(handle):
        writing.set()
        goes_on.wait(10)
        flush(handle)
        written.set()

    async def leave():
        task = asyncio.create_task(TokenHubVideoTool(ledger=tmp_path).agenerate(prompt="猫"))
        await asyncio.to_thread(writing.wait, 10)
        task.cancel()
        await asyncio.wait({task})
        goes_on.set()
        await asyncio.to_thread(written.wait, 10)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", slow)
        asyncio.run(leave())  # its end waits for the threads
    assert files_in(tmp_path) == []
    assert hub.requests == []


# --- after it -------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["hy-image-v3.0", "hy-image-lite"])
def test_a_full_disk_under_the_results_costs_none(hub, call, tmp_path, disk, model):
    disk.full = True
    with pytest.warns(UserWarning, match="was not saved"):
        result = call(TokenHubImageTool(model=model, save_to=tmp_path), "generate", prompt="猫")
    assert result.files[0].path is None
    assert result.files[0].url
    assert files_in(tmp_path) == []


def test_what_a_full_disk_did_not_take_is_saved_later_under_its_own_name(hub, call, tmp_path, disk):
    tool = TokenHubImageTool(save_to=tmp_path)
    disk.full = True
    with pytest.warns(UserWarning, match="was not saved"):
        result = tool.generate(prompt="雪地里的猫")
    disk.full = False
    (file,) = call(tool, "result", result.job.id).files
    assert file.path.name.startswith("雪地里的猫")
    assert len(hub.jobs) == 1


def test_a_ledger_that_fills_up_meanwhile_loses_neither_id_nor_result(hub, call, tmp_path, disk):
    def fill(_job):
        disk.full = True

    tool = TokenHubVideoTool(ledger=tmp_path, progress=fill)
    with pytest.warns(UserWarning, match="is not in the ledger"):
        result = call(tool, "generate", prompt="猫")
    assert result.job.id in hub.jobs
    (record,) = [json.loads(path.read_text("utf-8")) for path in tmp_path.glob("*.json")]
    assert record["entries"][0]["job"]["id"] == result.job.id


# --- ledgers of others ----------------------------------------------------------------------------


@pytest.fixture
def entry(hub, tmp_path):
    """Rewrite the one record of a ledger: `entry(at=…)`, or `entry(whole=b"…")`."""
    job = TokenHubVideoTool(ledger=tmp_path).submit(prompt="猫")
    (file,) = tmp_path.glob("*.json")

    def write(whole=None, **fields):
        record = json.loads(file.read_text("utf-8"))
        record["entries"][0] |= fields
        file.write_bytes(json.dumps(record).encode() if whole is None else whole)
        return job

    write.file = file
    return write


def test_an_entry_of_a_newer_version_is_left_alone_and_told(hub, call, tmp_path, entry):
    entry(b'{"schema": 2, "calls": 1}')
    before = entry.file.read_bytes()
    with pytest.raises(errors.InvalidRequestError, match="newer version"):
        call(TokenHubVideoTool(ledger=tmp_path), "generate", prompt="猫")
    assert entry.file.read_bytes() == before
    assert len(hub.jobs) == 1


@pytest.mark.parametrize("whole", [b"", b"{", b"\xff\xfe\x00", b"[]", b"{}", b"[" * 100_000])
def test_an_entry_that_cannot_be_read_may_have_been_charged(hub, call, entry, whole, monkeypatch):
    monkeypatch.setattr("langchain_tokenhub.jobs.ledger.OTHER_WORKER", 0.0)
    entry(whole)
    with pytest.raises(errors.SubmissionUnknownError, match="may have been charged") as caught:
        call(TokenHubVideoTool(ledger=entry.file.parent), "generate", prompt="猫")
    assert "again=True" in caught.value.hint
    assert len(hub.jobs) == 1
    assert call(
        TokenHubVideoTool(ledger=entry.file.parent), "generate", prompt="猫", again=True
    ).files


def _link(file):
    file.symlink_to(file.with_name("nowhere"))


def _grow(file):
    file.touch()
    os.truncate(file, 1 << 40)


BAD = {
    "a link to nothing": _link,
    "a link to itself": lambda file: file.symlink_to(file),
    "a device": lambda file: file.symlink_to("/dev/zero"),
    "a folder": lambda file: file.mkdir(),
    "a pipe": os.mkfifo if hasattr(os, "mkfifo") else _link,
    "a huge file": _grow,
}


@pytest.mark.parametrize("kind", BAD)
def test_an_entry_that_is_no_file_is_reported_by_its_name_and_nothing_is_sent(
    hub, call, entry, kind
):
    entry()
    entry.file.unlink()
    BAD[kind](entry.file)
    tool = TokenHubVideoTool(ledger=entry.file.parent)
    for again in (False, True):
        with pytest.raises(errors.InvalidRequestError, match="ledger cannot be used") as caught:
            call(tool, "generate", prompt="猫", again=again)
        assert entry.file.name in str(caught.value)
    call(TokenHubJobTool(ledger=entry.file.parent), "invoke", {"action": "list"})
    assert len(hub.jobs) == 1


@pytest.mark.parametrize(
    "whole",
    ["[]", "{}", '"x"', "1", "null", '{"schema": 1}']
    + [f'{{"schema": 1, "entries": {entries}}}' for entries in ("1", "[]", '[{"job": {"id": 1}}]')],
)
def test_json_of_another_shape_is_reported_at_once_by_its_name(hub, call, entry, whole):
    entry(whole.encode())
    with pytest.raises(errors.SubmissionUnknownError, match=entry.file.stem):
        call(TokenHubVideoTool(ledger=entry.file.parent), "generate", prompt="猫")
    assert len(hub.jobs) == 1


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00", "9999-12-31T23:59:59-14:00", "x", 1e300])
def test_a_job_with_an_impossible_date_is_collected(hub, call, tmp_path, entry, at):
    job = entry()
    naive = job.submitted_at.replace(tzinfo=None).isoformat()
    entry(at=at, job={**job.model_dump(mode="json"), "submitted_at": naive})
    listed = call(TokenHubJobTool(ledger=tmp_path), "invoke", {"action": "list"})
    assert job.id in listed
    assert call(TokenHubVideoTool(ledger=tmp_path), "generate", prompt="猫").job.id == job.id


HOLDER = """
import sys, time
from pathlib import Path
from langchain_tokenhub.jobs.ledger_backends import _hold_lock
with _hold_lock(Path(sys.argv[1])):
    print(flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_killed_process_holds_up_nobody(hub, call, entry):
    job = entry()
    lock = entry.file.with_name(".lock")
    command = [sys.executable, "-c", HOLDER, lock]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline()
        holder.kill()
    tool = TokenHubVideoTool(ledger=entry.file.parent)
    assert call(tool, "generate", prompt="猫").job.id == job.id


def test_one_broken_entry_hides_no_other_job(hub, call, tmp_path, entry, elsewhere):
    job = entry()
    (tmp_path / "other.json").write_bytes(b"\xff\xfe" + job.id.encode())
    elsewhere()
    listed = call(TokenHubJobTool(ledger=tmp_path), "invoke", {"action": "list"})
    assert listed.startswith(f"job {job.id}")
    assert call(TokenHubVideoTool(ledger=tmp_path), "result", job.id).files


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_is_hours_off_neither_pays_twice_nor_waits_for_hours(
    hub, call, entry, hours, monkeypatch
):
    monkeypatch.setattr("langchain_tokenhub.jobs.ledger.OTHER_WORKER", 0.2)
    at = datetime.now(UTC) + timedelta(hours=hours)
    for moment in (at.isoformat(), at.replace(tzinfo=None).isoformat()):
        entry(at=moment, job=None)
        with pytest.raises(errors.SubmissionUnknownError):
            call(TokenHubVideoTool(ledger=entry.file.parent), "generate", prompt="猫")
    assert len(hub.jobs) == 1


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_job_of_a_clock_that_is_hours_off_is_collected(hub, call, tmp_path, entry, hours):
    job = entry()
    off = job.submitted_at + timedelta(hours=hours)
    entry(job={**job.model_dump(mode="json"), "submitted_at": off.isoformat()})
    found = call(TokenHubVideoTool(ledger=tmp_path), "generate", prompt="猫")
    assert found.job.id == job.id
    assert len(hub.jobs) == 1


def test_bytes_that_came_once_and_were_not_kept_are_told(hub, call, tmp_path, elsewhere):
    asked = {"prompt": "猫", "rsp_img_type": "base64"}
    tool = TokenHubImageTool(model="hy-image-lite", ledger=tmp_path)
    with pytest.warns(UserWarning, match="not dumped"):
        tool.generate(**asked)
    elsewhere()
    with pytest.raises(errors.ResultExpiredError) as caught:
        call(tool, "generate", **asked)
    assert "again=True" in caught.value.hint
    assert len(hub.requests) == 1
