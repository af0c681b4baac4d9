"""What a hostile user, disk or service does to jobs: no result lost, no secret told, no hang."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import pickle
import threading
import warnings
import zipfile

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.stores import InMemoryByteStore

from langchain_tokenhub import errors
from langchain_tokenhub.jobs import service
from langchain_tokenhub.jobs.models import MediaResult
from langchain_tokenhub.tools import TokenHubImageTool, TokenHubVideoTool

NAN, ENDLESS = float("nan"), float("inf")


def submits(hub):
    return sum(r.path.endswith(("/submit", "/lite")) for r in hub.requests)


def refused(call, tool, verb, *args, **params):
    with pytest.raises(errors.InvalidRequestError) as caught:
        call(tool, verb, *args, **params)
    return caught.value


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {"prompt": "猫", "seed": NAN},
        {"prompt": "猫", "seed": 10**400},
        {"prompt": "猫" * 10**6},
        {"prompt": "猫", "extra": {"x": NAN}},
        {"prompt": "猫", "extra": {"x": object()}},
        {"prompt": "猫", "wait_timeout": NAN},
        {"prompt": "猫", "wait_timeout": -1},
        {"prompt": "猫", "images": ["data:image/png;base64,aGFsbG8="]},
        {"prompt": "猫", "images": ["data:text/html,<b>"]},
        {"prompt": "猫", "images": ["data:image/png;base64,???"]},
    ],
    ids=lambda params: ascii(params)[:40],
)
def test_nonsense_is_refused_before_anything_is_sent_or_noted(hub, call, tmp_path, params):
    error = refused(call, TokenHubImageTool(ledger=tmp_path), "generate", **params)
    assert len(str(error)) < 1000
    assert hub.requests == []
    assert list(tmp_path.glob("*.json")) == []


@pytest.mark.parametrize("job_id", ["", "  ", "\n"])
@pytest.mark.parametrize("verb", ["query", "watch", "result"])
def test_an_empty_job_id_is_refused(hub, call, verb, job_id):
    refused(call, TokenHubVideoTool(), verb, job_id)
    assert hub.requests == []


@pytest.mark.parametrize("thing", [None, True, 1.5, [], {}, b"x", ...], ids=str)
def test_what_is_no_job_is_refused(hub, call, thing):
    for verb in ("query", "watch", "result"):
        assert "neither a Job nor a job ID" in str(refused(call, TokenHubVideoTool(), verb, thing))
    refused(call, TokenHubVideoTool(), "results", [thing])
    assert hub.requests == []


def test_one_job_may_stand_for_several(hub, call):
    job = TokenHubVideoTool().submit(prompt="猫")
    for one in (job, job.id):
        assert [found.job.id for found in call(TokenHubVideoTool(), "results", one)] == [job.id]


@pytest.mark.parametrize("job_id", ["a b", "../../etc", "猫", "a\x00b", "x" * 10_000])
def test_an_odd_job_id_is_not_found(hub, call, tmp_path, job_id):
    tool = TokenHubVideoTool(save_to=tmp_path, ledger=tmp_path / "ledger")
    with pytest.raises(errors.JobNotFoundError) as caught:
        call(tool, "query", job_id)
    assert caught.value.job.id == job_id


def test_no_patience_polls_once_and_endless_patience_is_no_overflow(hub, call):
    hub.speed = 0.001
    with pytest.raises(errors.JobTimeoutError):
        call(TokenHubVideoTool(), "generate", prompt="猫", wait_timeout=0)
    hub.speed = 1000
    assert call(TokenHubVideoTool(), "generate", prompt="猫", wait_timeout=ENDLESS).files


def test_half_an_emoji_costs_no_result(hub, call, tmp_path):
    tool = TokenHubVideoTool(save_to=tmp_path, ledger=tmp_path / "ledger")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = call(tool, "generate", prompt="猫\ud83d")
    sidecar = result.files[0].path.with_name(f"{result.files[0].path.name}.json")
    assert json.loads(sidecar.read_text("utf-8"))["parameters"]["prompt"].startswith("猫")


# --- disks ----------------------------------------------------------------------------------------


def test_links_in_the_folder_lead_no_save_elsewhere(hub, call, tmp_path):
    folder, outside = tmp_path / "out", tmp_path / "outside"
    first = call(TokenHubImageTool(save_to=folder), "generate", prompt="猫")
    again = TokenHubImageTool(save_to=folder)
    path = first.files[0].path
    data = path.read_bytes()
    path.unlink()
    path.symlink_to(outside)
    saved = call(again, "result", first.job).files[0].path
    assert not outside.exists()
    assert saved != path
    assert saved.read_bytes() == data


def test_a_link_in_an_allowed_folder_is_no_way_out(hub, call, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "a.png").symlink_to(tmp_path / "secret.png")
    tool = TokenHubVideoTool(allow_local_files=[allowed])
    with pytest.raises(errors.InvalidRequestError):
        call(tool, "invoke", {"prompt": "跑", "image": str(allowed / "a.png")})
    assert hub.requests == []


def test_a_tilde_is_the_home_folder(hub, call, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folders = {"save_to": "~/out", "ledger": "~/ledger"}
    result = call(TokenHubVideoTool(**folders), "generate", prompt="猫")
    assert result.files[0].path.parent == tmp_path / "out"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "ledger"}


def test_a_sidecar_overwrites_nothing(hub, call, tmp_path):
    tool = TokenHubImageTool(save_to=tmp_path)
    first = call(tool, "generate", prompt="猫")
    path = first.files[0].path
    mine = path.with_name(f"{path.name}.json")
    path.unlink()
    mine.write_text("mine")
    call(tool, "result", first.job)
    assert mine.read_text() == "mine"


class Broken(InMemoryByteStore):
    """A store that fails when it is told to, in a way of its own."""

    verbs = ()

    def mset(self, pairs):
        if "mset" in self.verbs:
            raise ZeroDivisionError
        super().mset(pairs)

    def mget(self, keys):
        if "mget" in self.verbs:
            raise ZeroDivisionError
        return super().mget(keys)


@pytest.mark.parametrize("verb", ["mset", "mget"])
def test_a_ledger_that_fails_first_is_reported_and_nothing_is_sent(hub, call, verb):
    store = Broken()
    store.verbs = (verb,)
    error = refused(call, TokenHubVideoTool(ledger=store), "generate", prompt="猫")
    assert "ledger" in str(error)
    assert hub.requests == []


def test_a_ledger_that_fails_later_costs_no_result(hub, call):
    class Full(InMemoryByteStore):
        def mset(self, pairs):
            if any(b'"job": {' in text for _, text in pairs):
                raise OSError(28, "No space left on device")
            super().mset(pairs)

    with pytest.warns(UserWarning, match="is not in the ledger: .*No space left"):
        result = call(TokenHubVideoTool(ledger=Full()), "generate", prompt="猫")
    assert result.files
    assert result.job.id in hub.jobs


def test_a_ledger_that_is_a_file_is_reported_to_a_tool_call(hub, call, tmp_path):
    (tmp_path / "file").write_text("")
    tool = TokenHubVideoTool(ledger=tmp_path / "file")
    asked = {"type": "tool_call", "id": "1", "name": tool.name, "args": {"prompt": "猫"}}
    message = call(tool, "invoke", asked)
    assert "Nothing was charged" in message.content
    assert hub.requests == []


def _bombs():
    yield "bomb", _zip({"a.obj": bytes(400 * 1024**2)})
    yield "many", _zip({f"{n}.obj": b"" for n in range(1001)})
    yield "outside", _zip({"../a.obj": b"v 0 0 0"})
    broken = bytearray(_zip({"a.obj": b"v 0 0 0\n" * 1000}))
    broken[40:60] = bytes(20)
    yield "broken", bytes(broken)
    yield "cut", _zip({"a.obj": b"v 0 0 0\n" * 1000})[:50]


def _zip(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as history:
        for name, data in files.items():
            history.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "data"), list(_bombs()), ids=lambda one: str(one)[:8])
def test_a_bad_archive_is_kept_and_not_unpacked(hub, tmp_path, name, data):
    from langchain_tokenhub.jobs.models import MediaFile

    with pytest.warns(UserWarning, match="not unpacked"):
        saved = MediaFile._from_bytes(data, type="obj").save(tmp_path / "out")
    assert saved.path.read_bytes() == data
    assert [path.name for path in (tmp_path / "out").iterdir()] == [saved.path.name]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# --- listeners ------------------------------------------------------------------------------------


class Rude(BaseCallbackHandler):
    raise_error = True

    def on_custom_event(self, *_, **__):
        raise ZeroDivisionError


def test_a_handler_that_raises_costs_no_result(hub, call):
    text = call(TokenHubVideoTool(), "invoke", {"prompt": "猫"}, {"callbacks": [Rude()]})
    assert "completed" in text


# --- secrets --------------------------------------------------------------------------------------


def test_the_key_is_in_no_file_and_no_value(hub, call, tmp_path, caplog):
    caplog.set_level(0)
    tool = TokenHubVideoTool(
        save_to=tmp_path / "out",
        ledger=tmp_path / "ledger",
    )
    result = call(tool, "generate", prompt="猫")
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    names = str(list(tmp_path.rglob("*")))
    values = f"{result!r}{result}{result.model_dump_json()}{tool!r}{pickle.dumps(tool)}"
    assert "sk-test-canary" not in f"{written}{names}{values}{caplog.text}"


# --- copies, threads, loops -----------------------------------------------------------------------


def test_a_tool_works_after_pickling_and_deep_copying(hub, call, tmp_path):
    tool = TokenHubVideoTool(ledger=tmp_path / "ledger", save_to=tmp_path)
    for twin in (pickle.loads(pickle.dumps(tool)), copy.deepcopy(tool)):
        assert call(twin, "generate", prompt="猫").files
    assert submits(hub) == 1


def test_results_survive_pickles_and_copies(hub, call, tmp_path):
    result = call(TokenHubImageTool(save_to=tmp_path), "generate", prompt="猫")
    held = call(TokenHubImageTool(model="hy-image-lite"), "generate", prompt="猫")
    for one in (result, held):
        for twin in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
            assert twin == one
            assert twin.files[0].read() == one.files[0].read()
    assert MediaResult.model_validate_json(result.model_dump_json()) == result


def test_one_tool_serves_eight_threads_and_two_loops_at_once(hub, tmp_path):
    tool = TokenHubVideoTool(save_to=tmp_path)
    made, troubles = [], []

    def thread(number):
        made.append(tool.generate(prompt=f"线程{number}"))

    def loop(number):
        async def several():
            return await asyncio.gather(
                *(tool.agenerate(prompt=f"循环{number}-{n}") for n in range(4))
            )

        made.extend(asyncio.run(several()))

    def guarded(work, number):
        try:
            work(number)
        except Exception as trouble:  # noqa: BLE001 - a thread's trouble is shown below
            troubles.append(trouble)

    works = [(thread, n) for n in range(8)] + [(loop, n) for n in range(2)]
    threads = [threading.Thread(target=guarded, args=work) for work in works]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert troubles == []
    assert len({result.job.id for result in made}) == submits(hub) == 16
    assert len({result.files[0].path for result in made}) == 16


# --- many jobs ------------------------------------------------------------------------------------


def test_leaving_the_results_early_leaves_nothing_running(hub, call):
    tool = TokenHubVideoTool()
    jobs = [tool.submit(prompt=f"猫{n}") for n in range(5)]
    for _ in tool.results(jobs):
        break

    async def first():
        async for _ in (stream := tool.aresults(jobs)):
            break
        await stream.aclose()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        return (await asyncio.wait(others, timeout=10))[1] if others else set()

    assert asyncio.run(first()) == set()
    assert sum(service.stats._rates.values()) == pytest.approx(0)


def test_a_job_that_is_named_twice_is_collected_once(hub, call, tmp_path):
    tool = TokenHubVideoTool(save_to=tmp_path)
    job = tool.submit(prompt="猫")
    (result,) = call(tool, "results", [job, job.id, f" {job.id} "])
    assert sorted(tmp_path.glob("*.mp4")) == [result.files[0].path]


def test_a_poll_that_hangs_holds_up_no_other(hub, call):
    tool = TokenHubVideoTool(timeout=2.0)
    jobs = [tool.submit(prompt=f"猫{n}") for n in range(4)]
    hub.fail("hang", path="/v1/api/video/query")
    begun = hub.uptime()
    at = []

    def watch(_):
        at.append(hub.uptime() - begun)

    found = call(TokenHubVideoTool(timeout=2.0, progress=watch), "results", jobs)
    assert len(found) == 4
    assert sum(moment < 2 for moment in at) >= 3


def test_a_cancelled_wait_for_many_names_them(hub, caplog):
    hub.speed = 0.001
    tool = TokenHubVideoTool()
    jobs = [tool.submit(prompt=f"猫{n}") for n in range(3)]

    async def cancelled():
        async def collect():
            return [one async for one in tool.aresults(jobs)]

        task = asyncio.create_task(collect())
        await asyncio.sleep(0.1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as stopped:
            return stopped.__notes__

    (note,) = asyncio.run(cancelled())
    assert all(job.id in note and job.id in caplog.text for job in jobs)


class Listed(InMemoryByteStore):
    times = 0

    def yield_keys(self, **how):
        self.times += 1
        return super().yield_keys(**how)


def test_the_ledger_is_listed_once_for_many_jobs(hub, call, tmp_path, elsewhere):
    tool = TokenHubVideoTool(ledger=Listed(), save_to=tmp_path)
    jobs = [tool.submit(prompt=f"猫{n}") for n in range(3)]
    elsewhere()
    names = [call(tool, "result", job).files[0].path.name for job in jobs]
    assert [name[:2] for name in names] == ["猫0", "猫1", "猫2"]
    assert tool.ledger.times == 1
    elsewhere()
    found = call(tool, "results", [job.id for job in jobs])
    assert {one.job.id for one in found} == {job.id for job in jobs}
    assert tool.ledger.times == 2
