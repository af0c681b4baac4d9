"""The command line without a network: its options, texts, exit codes and records."""

from __future__ import annotations

import io
import json
import re
import shlex
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import langchain_tokenhub
from langchain_tokenhub import cli, errors
from langchain_tokenhub.bulk.report import Counts, Outcome
from langchain_tokenhub.catalogue import chat_models, media_models
from langchain_tokenhub.cli import COMMANDS, bulk, console, lists, main, media
from langchain_tokenhub.cli.messages import Translator, texts
from langchain_tokenhub.cli.parser import language_of, parse
from langchain_tokenhub.jobs.history import write_job_sidecar
from langchain_tokenhub.jobs.ledger import Ledger
from langchain_tokenhub.jobs.ledger_backends import FolderBackend
from langchain_tokenhub.jobs.live_lines import display_width
from langchain_tokenhub.jobs.models import Job, JobRequest, MediaFile
from langchain_tokenhub.params import params_class
from langchain_tokenhub.tools import TokenHubImageTool, TokenHubToolkit
from langchain_tokenhub.transport import SyncRuntime, run_sync

SOURCES = sorted(Path(cli.__file__).parent.glob("*.py"))
TABLE = texts()
ENGLISH = console.Console(Translator("en"))


def job(**facts):
    return Job(**{"kind": "video", "model": "hy-video-1.5", "id": "1461558553872389712", **facts})


def keep(path, **whole):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole), "utf-8")


CALL = JobRequest(body={}, key="hy-video-1.5-0a1b")


def ledger(folder, account=""):
    return Ledger(FolderBackend(media.ledger_path(folder)), SyncRuntime(), account)


def record(folder, known):
    run_sync(ledger(folder).keep(known, CALL))


def parsed(*arguments):
    return parse(COMMANDS, Translator("en"), arguments)


def given(*arguments):
    return media.read_params(parsed(*arguments))


@pytest.fixture(autouse=True)
def _use_english(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")


# --- texts ----------------------------------------------------------------------------------------


def test_every_text_that_is_used_is_in_the_table_with_the_same_gaps_in_both_languages():
    code = "".join(source.read_text("utf-8") for source in SOURCES)
    said = set(re.findall(r'(?:translate|write_text)\(\s*"([a-z0-9-]+)"', code))
    assert said | set(COMMANDS) <= set(TABLE)
    for name, text in TABLE.items():
        assert len({frozenset(re.findall(r"{(\w+)", text[one])) for one in ("en", "zh")}) == 1, name


def test_the_language_is_as_asked_for_else_the_locales():
    for arguments, environment, language in (
        ([], {"LANG": "zh_CN.UTF-8"}, "zh"),
        ([], {"LANG": "en_US.UTF-8"}, "en"),
        ([], {"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ([], {"LANG": "en_US", "LC_MESSAGES": "zh_TW"}, "zh"),
        (["--lang", "zh"], {"LANG": "en_US"}, "zh"),
        (["image", "--lang=en"], {"LANG": "zh_CN"}, "en"),
        (["--lang", "fr"], {"LANG": "zh_CN"}, "zh"),
    ):
        assert language_of(arguments, environment) == language


# --- the parser -----------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys, command, language):
    with pytest.raises(SystemExit) as done:
        main([command, "--help", "--lang", language])
    out = capsys.readouterr().out
    assert done.value.code == 0
    assert TABLE[command][language] in out
    assert out.count(TABLE["usage"][language]) == 1


def test_the_help_lists_commands_and_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    codes = {code for code, _ in console._EXITS} | {console.INTERRUPTED, console.NOT_SAVED}
    assert all(f"\n    {name} " in out for name in COMMANDS)
    assert all(re.search(rf"^  {code}  ", out, re.MULTILINE) for code in codes)


def usage_error(capsys, *arguments):
    """Return what a wrong command line prints."""
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2
    return capsys.readouterr().err


def test_no_command_is_a_usage_error(capsys):
    assert main([]) == 2
    assert "usage: tokenhub" in capsys.readouterr().out


def test_a_wrong_command_line_is_refused_with_the_nearest_or_the_reason(capsys):
    for arguments, said in {
        "draw": "invalid choice",
        "imge cat": "did you mean image?",
        "image cat --resolutoin 512:512": "did you mean --resolution?",
        "image cat --sede=7": "did you mean --seed?",
        "models --kind vidoe": "did you mean video?",
        "image cat --resol 512:512": "unknown arguments: --resol",
        "image cat --extra {": "not JSON",
        "image cat --extra [1]": "a JSON object is needed",
        "image cat --extra 1": "a JSON object is needed",
        **{f"emulator --port {port}": "0 to 65535" for port in ("99999", "-1", "http", "8.5")},
    }.items():
        assert said in usage_error(capsys, *arguments.split()), arguments


def test_a_misspelt_model_is_refused_with_the_nearest(capsys):
    with pytest.warns(UserWarning, match="did you mean 'hy-image-v3.0'"):
        TokenHubImageTool(model="hy-imge-v3.0")
    with pytest.raises(ValueError, match=r"did you mean 'hy-3d-3\.1'"):
        TokenHubToolkit(models=["hy3d-3.1"]).get_tools()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TokenHubImageTool(model="hy-image-v3.5")  # another version is no misspelling


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert langchain_tokenhub.__version__ in capsys.readouterr().out


@pytest.mark.parametrize("row", media_models(), ids=lambda row: row.id)
def test_every_parameter_of_a_model_is_an_option(capsys, row):
    with pytest.raises(SystemExit):
        main([row.kind, "--model", row.id, "--help"])
    out = capsys.readouterr().out
    names = set(params_class(row.id).model_fields) - {"prompt", "job_id"}
    assert all(f"--{name.replace('_', '-')} " in out for name in names)
    assert "--job-id" not in out


def test_no_option_takes_the_key():
    source = "".join(path.read_text("utf-8") for path in SOURCES)
    assert "api-key" not in source
    assert "api_key" not in source


def test_options_become_parameters():
    for arguments, found in {
        "image 一只 猫": {"prompt": "一只 猫"},
        "image --seed 5 cat": {"prompt": "cat", "seed": 5},
        "image cat --seed many": {"prompt": "cat", "seed": "many"},
        "image --images a.png --images b.png": {"images": ["a.png", "b.png"]},
        'image --logo-param {"logo_url":"u"}': {"logo_param": {"logo_url": "u"}},
        "3d --enable-pbr": {"enable_pbr": True},
        "3d --no-enable-pbr": {"enable_pbr": False},
        '3d --multi-view-images {"view_type":"left"}': {
            "multi_view_images": [{"view_type": "left"}]
        },
        "video -m yt-video-fx --template hug": {"template": "hug"},
        "video --model=yt-video-2.0 --fps 24": {"fps": 24},
        "video -myt-video-2.0 --fps 24": {"fps": 24},
        "image --model ep-own cat": {"prompt": "cat"},
        "image -- --cat": {"prompt": "--cat"},
    }.items():
        assert given(*arguments.split()) == found


def test_a_prompt_may_come_from_stdin(monkeypatch):
    piped = SimpleNamespace(buffer=SimpleNamespace(read="雪地里的猫\n".encode))
    monkeypatch.setattr("sys.stdin", piped)
    assert given("image", "-") == {"prompt": "雪地里的猫"}


# --- output ---------------------------------------------------------------------------------------


def test_lines_break_by_columns_between_words_and_at_no_wrong_sign():
    for text, width, lines in (
        ("画面描述，建议用中文，最多", 10, ["画面描述，", "建议用中", "文，最多"]),
        ("一二三（四五六）", 8, ["一二三", "（四五", "六）"]),
        ("one two three", 8, ["one two", "three"]),
    ):
        assert console.wrap_text(text, width) == lines


def test_control_codes_are_replaced(capsys):
    ENGLISH.write_message("a\x1b]0;x\x07b\n\tc")
    assert capsys.readouterr().err == "a\ufffd]0;x\ufffdb\n\tc\n"


def test_an_argument_that_the_locale_could_not_decode_is_decoded():
    broken = "猫".encode().decode("ascii", "surrogateescape")
    assert console.decode_argument(broken) == "猫"
    assert console.decode_argument("猫") == "猫"


def test_a_run_of_many_jobs_prints_a_line_for_each_tenth(capsys):
    counts = Counts(rows=40)
    with closing(bulk.Progress(ENGLISH, "shots.jsonl", counts)) as progress:
        for number in range(40):
            counts.add(Outcome(id=str(number), state="done"))
            progress.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith("shots.jsonl  4/40  done 4, ")
    assert [line.split()[1] for line in lines] == ["1/40", *(f"{n}/40" for n in range(4, 41, 4))]


@pytest.mark.usefixtures("elsewhere")
def test_under_lang_zh_the_parsers_errors_are_chinese(capsys):
    wrong = {
        "image --seed": "参数 --seed：缺少一个值",
        "resume": "缺少参数：JOB_ID",
        "image x --bogus 1": "无法识别的参数：--bogus 1",
        "models --kind vidoe": "是否想输入 video？",
        "image x --extra {": "不是有效的 JSON",
        "image x --extra 1": "应为 JSON 对象",
        "image x --json=1": "不接受值 '1'",
        "chat x --temperature warm": "不是数字：'warm'",
        "emulator --port x": "不是端口号",
        "emulator --speed x": "不是大于等于 0 的数字",
        "emulator --rpm -1": "不是大于等于 0 的整数",
    }
    for command, text in wrong.items():
        last = usage_error(capsys, *command.split(), "--lang", "zh").splitlines()[-1]
        assert text in last
        assert not re.findall(r"(?<![-'\w])[a-z]+ [a-z]+", last.partition(": ")[2]), last


@pytest.mark.usefixtures("elsewhere")
def test_under_lang_zh_common_errors_are_chinese(capsys, monkeypatch):
    wrong = {
        "image 雨 --seed x": "应为 1 至 4294967295 的整数",
        "image 雨 --revise 3": "应为 0 或 1",
        "image 雨 --resolution 4:4": "边长应为 512 至 2048 像素",
        "image 雨 --resolution wide": "应为以像素计的“宽:高”",
        "video 雨 --model yt-video-2.0 --image x": "'x'：文件不存在",
        "video 雨 --model yt-video-fx": "没有此参数",
        "image": "prompt：缺少",
        f"image {'雨' * 9000}": "9000 个字符，最多 8192 个",
        "chat 你好 --base-url http://127.0.0.1:9 --max-retries 0": "无法连接服务：",
        "chat 你好 --site intl": "'intl' 不是站点",
    }
    monkeypatch.setenv("TOKENHUB_API_KEY", "any")
    for command, text in wrong.items():
        assert main([*command.split(), "--lang", "zh"])
        first = capsys.readouterr().err.splitlines()[0]
        assert text in first
        assert not re.findall(r"(?<![-'\w])[a-z]+ [a-z]+", first), first


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_end_of_the_help_fits_80_columns(language):
    epilog = Translator(language)("epilog")
    assert max(map(display_width, epilog.splitlines())) < 80


def test_a_bilingual_hint_is_shown_in_the_users_language():
    for language, own in (("en", "try a / b"), ("zh", "试试 a / b")):
        translate = Translator(language)
        assert translate.hint("try a / b / 试试 a / b") == own
        assert translate.hint("try a / b") == "try a / b"


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns."""
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(console, "sys", SimpleNamespace(stdout=stream, stderr=stream, maxsize=0))
    return stream


@pytest.mark.parametrize("language", ["en", "zh"])
def test_tables_fit_eighty_columns(terminal, tmp_path, language):
    long_id = "1259388371-1761555626-8e0e18f8-bbbb-4100-99bf-ebd19e838bd2-0"
    path = tmp_path / f"{'雪' * 30}-{long_id[-12:]}.png"
    done = job(id=long_id, kind="image", model="hy-image-v3.0", status="completed")
    done = done.model_copy(update={"files": [MediaFile(type="png", path=path)]})
    path.touch()
    write_job_sidecar(done, done.files[0], 0, JobRequest(body={}))
    record(tmp_path, job(model="yt-video-humanactor", submitted_at="2026-01-02T00:00:00Z"))
    screen = console.Console(Translator(language))
    lists.list_jobs(parsed("jobs", str(tmp_path)), screen)
    lists.list_models(parsed("models", "--all"), screen)
    assert max(map(display_width, terminal.getvalue().splitlines())) <= 80
    assert f"…{long_id[-12:]} " in terminal.getvalue()


def test_a_job_is_found_by_the_end_of_its_id_that_the_list_shows(tmp_path):
    record(tmp_path, job(id="100-ebd19e838bd2-0"))
    for shown in ("100-ebd19e838bd2-0", "…bd19e838bd2-0", "bd19e838bd2-0"):
        assert media.find_job(tmp_path, shown).id == "100-ebd19e838bd2-0"
    assert media.find_job(tmp_path, "bd2-0") is None
    other = JobRequest(body={}, key="hy-video-1.5-0a1c")
    run_sync(ledger(tmp_path).keep(job(id="200-ebd19e838bd2-0"), other))
    assert media.find_job(tmp_path, "bd19e838bd2-0") is None


# --- failures -------------------------------------------------------------------------------------


def test_each_error_has_its_exit_code():
    for code, classes in {
        1: [errors.TokenHubError],
        2: [errors.InvalidRequestError, errors.ContextLengthError, errors.ModelNotAvailableError],
        3: [errors.AuthenticationError, errors.QuotaExhaustedError, errors.PermissionDeniedError],
        4: [
            *(errors.RateLimitError, errors.ServerError, errors.APITimeoutError),
            errors.IncompleteStreamError,
        ],
        5: [
            *(errors.JobFailedError, errors.JobBlockedError, errors.ContentBlockedError),
            *(errors.JobNotFoundError, errors.ResultExpiredError),
        ],
        6: [errors.JobTimeoutError],
        7: [errors.SubmissionUnknownError],
    }.items():
        assert {console.exit_code(cls("x")) for cls in classes} == {code}


def test_the_command_that_collects_a_job_goes_to_the_same_place():
    options = SimpleNamespace(
        save_to=Path("my films"), site="overseas", base_url=["https://a.test"]
    )
    command = shlex.split(console.resume_command(job(model="ep-1"), options))
    assert command[:3] == ["tokenhub", "resume", "1461558553872389712"]
    assert parsed(*command[1:]).save_to == Path("my films")
    assert parsed(*command[1:]).kind == "video"
    assert parsed(*command[1:]).base_url == ["https://a.test"]


@pytest.mark.usefixtures("elsewhere")
def test_usage_errors_have_no_traceback(capsys, monkeypatch):
    monkeypatch.setenv("TOKENHUB_API_KEY", "sk-canary")
    for arguments, said in {
        "image cat -o cat.png": "not a file such as",
        "image cat --model hy-3d-3.0": "not for image",
        "image cat --site moon": "site: ",
        "image cat --base-url http://example.com": "not https",
        "image --seed 0 cat": "seed: 0",
        "image": "prompt: missing",
        "video -m yt-video-fx cat": "prompt: not a parameter",
        "resume 123": "give its model",
        "resume 123 --model ep-1": "--kind",
    }.items():
        assert main(arguments.split()) == 2
        err = capsys.readouterr().err
        assert said in err
        assert "Traceback" not in err
        assert "sk-canary" not in err


def test_the_error_of_a_missing_key_says_what_to_do(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("TOKENHUB_API_KEY", "TENCENT_TOKENHUB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["image", "cat"]) == 3
    assert "tokenhub emulator" in capsys.readouterr().err


# --- records --------------------------------------------------------------------------------------


def test_a_folder_lists_its_saved_and_its_unfinished_jobs(tmp_path):
    files = [MediaFile(type="mp4")]
    done = job(id="100001", status="completed", submitted_at="2026-01-01T00:00:00Z", files=files)
    going = job(id="100002", submitted_at="2026-01-02T00:00:00Z")
    keep(tmp_path / "a-100001.mp4.json", file="a-100001.mp4", job=done.model_dump(mode="json"))
    record(tmp_path, going)
    assert [known.id for known in media.known_jobs(tmp_path)] == ["100002", "100001"]
    assert media.unfinished_jobs(tmp_path) == [going]
    assert media.find_job(tmp_path, "100001").status == "completed"


def test_the_files_of_one_job_come_together(tmp_path):
    paths = [tmp_path / f"a-100001.{kind}" for kind in ("obj", "glb")]
    whole = job(id="100001", files=[MediaFile(type=path.suffix[1:], path=path) for path in paths])
    for index, file in enumerate(whole.files):
        file.path.touch()
        write_job_sidecar(whole, file, index, JobRequest(body={}))
    assert media.known_jobs(tmp_path) == [whole]


def test_a_job_that_is_done_with_is_forgotten(tmp_path):
    record(tmp_path, job(id="100001"))
    media.remove_entry(tmp_path, "100001")
    assert media.known_jobs(tmp_path) == []
    assert list(media.ledger_path(tmp_path).glob("*.json")) == []


def test_removing_a_job_keeps_the_other_calls_of_its_key(tmp_path):
    calls = [ledger(tmp_path, account="a") for _ in range(3)]
    run_sync(calls[0].keep(job(id="100001"), CALL))
    for call in calls[1:]:
        run_sync(call.claim(replace(CALL, again=True)))
    run_sync(calls[1].mark_lost(CALL))
    assert len(media.unanswered_submits(tmp_path)) == 2
    media.remove_entry(tmp_path, "100001")
    assert media.unfinished_jobs(tmp_path) == []
    assert len(media.unanswered_submits(tmp_path)) == 2
    run_sync(calls[2].keep(job(id="100003"), CALL))
    assert [known.id for known, _ in run_sync(calls[0].known_jobs())] == ["100003"]


def test_a_submit_without_an_answer_is_listed(capsys, tmp_path):
    run_sync(ledger(tmp_path).claim(JobRequest(body={}, key="hy-3d-3.0-0a1b")))
    assert main(["jobs", str(tmp_path)]) == 0
    assert re.search("may have been charged +hy-3d-3.0 ", capsys.readouterr().out)


def test_other_json_files_are_passed_over(tmp_path):
    (tmp_path / "a.json").write_text("[1, {", "utf-8")
    for name, text in {"null": "null", "list": "[1]", "deep": "[" * 100_000}.items():
        (tmp_path / f"{name}.json").write_text(text, "utf-8")
    keep(tmp_path / "b.json", job={"id": ""})
    keep(tmp_path / "c.json", name="somebody else's")
    assert media.known_jobs(tmp_path) == []


def test_an_empty_folder_has_no_jobs(capsys, tmp_path):
    assert main(["jobs", str(tmp_path)]) == 0
    assert "no jobs" in capsys.readouterr().err


# --- models ---------------------------------------------------------------------------------------


def test_models_lists_the_catalogue_without_the_retired_unless_asked(capsys):
    def listed(*options):
        assert main(["models", "--json", *options]) == 0
        return {row["id"] for row in json.loads(capsys.readouterr().out)}

    media_ids = {row.id for row in media_models()}
    assert listed() == media_ids | {row.id for row in chat_models() if row.status != "retired"}
    assert listed("--all") == media_ids | {row.id for row in chat_models()}


def test_models_of_one_kind(capsys):
    main(["models", "--kind", "3d"])
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["model", "kind"]
    assert [row.split()[0] for row in rows] == ["hy-3d-3.0", "hy-3d-3.1", "hy-3d-express"]


@pytest.mark.usefixtures("elsewhere")
def test_every_known_failure_is_json_where_that_is_asked_for(capsys):
    for command, kind, code in (
        ("resume zz", "UsageError", 2),
        ("gallery nowhere", "OSError", 1),
        ("chat hi --base-url nonsense", "ValidationError", 2),
    ):
        assert cli.main([*command.split(), "--json"]) == code
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["type"] == kind
        assert error["message"]


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
