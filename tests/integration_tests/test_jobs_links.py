"""Links that die before their time: refreshed once, else an error that names the job."""

from __future__ import annotations

import warnings

import pytest

from langchain_tokenhub import Job, MediaResult, TokenHubImageTool, TokenHubVideoTool, errors


def kill(hub, how, times=1):
    """Let the file host refuse the next downloads."""
    if how == "page":
        page = "<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"
        hub.fail("status", status=200, body=page, path="/files", times=times)
    else:
        hub.fail("status", status=how, path="/files", times=times)


def queries(hub):
    return [request for request in hub.requests if request.path.endswith("/query")]


def files(hub):
    return [request for request in hub.requests if request.path.startswith("/files")]


HOW = [403, 404, 410, "page"]


@pytest.mark.parametrize("how", HOW)
def test_reading_a_dead_link_names_the_job_and_result_refreshes_it(hub, call, how, tmp_path):
    tool = TokenHubImageTool()
    result = tool.generate(prompt="猫")
    for verb, args in (("read", ()), ("save", (tmp_path,))):
        kill(hub, how)
        with pytest.raises(errors.ResultExpiredError) as caught:
            call(result.files[0], verb, *args)
        assert caught.value.job.id == result.job.id
    before = len(queries(hub))
    for job in (result.job, result.job.id, caught.value.job):
        fresh = call(tool, "result", job)
        assert call(fresh.files[0], "read").startswith(b"\x89PNG")
    assert len(queries(hub)) == before + 1


@pytest.mark.parametrize("how", HOW)
def test_a_dead_link_is_refreshed_with_one_query_while_saving(hub, call, how, tmp_path):
    tool = TokenHubImageTool()
    result = tool.generate(prompt="猫")
    kill(hub, how)
    before = len(queries(hub))
    saving = TokenHubImageTool(save_to=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(saving, "result", result.job).files[0].path.exists()
    assert len(queries(hub)) == before + 1


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("verb", ["generate", "result"])
def test_a_link_that_stays_dead_raises_with_the_job(hub, call, how, verb, tmp_path):
    tool = TokenHubImageTool(save_to=tmp_path)
    job = TokenHubImageTool().generate(prompt="狗").job if verb == "result" else None
    kill(hub, how, times=99)
    with pytest.raises(errors.ResultExpiredError) as caught:
        call(tool, verb, *([job] if job else []), **({} if job else {"prompt": "猫"}))
    assert caught.value.job.id in hub.jobs
    assert len(files(hub)) == 2
    assert isinstance(caught.value, RuntimeError)


def inputs(result):
    yield from (result.files[0], result, result.job, result.job.id, result.model_dump(mode="json"))
    yield MediaResult.model_validate_json(result.model_dump_json())
    yield Job.model_validate_json(result.job.model_dump_json())


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("number", range(7))
def test_a_dead_link_given_to_another_tool_is_refreshed_once(hub, call, how, number):
    result = TokenHubImageTool().generate(prompt="猫")
    image = list(inputs(result))[number]
    kill(hub, how)
    assert call(TokenHubVideoTool(), "generate", prompt="跑", image=image).files
    assert [request.path for request in queries(hub)].count("/v1/api/image/query") >= 2


def test_one_that_stays_dead_is_reported_with_its_job_and_nothing_is_submitted(hub, call):
    result = TokenHubImageTool().generate(prompt="猫")
    kill(hub, 403, times=99)
    with pytest.raises(errors.ResultExpiredError) as caught:
        call(TokenHubVideoTool(), "generate", prompt="跑", image=result)
    assert caught.value.job.id == result.job.id
    assert len(hub.jobs) == 1
