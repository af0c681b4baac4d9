"""Manifests: what is read, and how wrong rows are named."""

from __future__ import annotations

import io
import json
import sys

import pytest

from langchain_tokenhub import InvalidRequestError
from langchain_tokenhub.bulk.plan import RowRef, make_plan


def plan(text, folder, name="shots.csv"):
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return make_plan(str(file))


def faults(rows, **options):
    with pytest.raises(InvalidRequestError) as raised:
        make_plan(rows, **options)
    assert raised.value.phase == "not sent"
    return raised.value.message


def test_jsonl_and_csv_say_the_same(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    lines = [
        {"id": "一", "model": "HY-Image-V3.0", "prompt": "竹林", "seed": 3, "images": ["a.png"]},
        {"id": "二", "model": "yt-video-2.0", "image": "@一", "extra": {"x": 1}},
    ]
    header = "\ufeff编号,模型,提示词,种子,图片,extra\r\n"
    body = '一,HY-Image-V3.0,竹林,3.0,a.png,\r\n,,,,,\r\n二,yt-video-2.0,,,@一,"{""x"": 1}"\r\n'
    from_json = plan("\n".join(map(json.dumps, lines)), tmp_path, "a.jsonl")
    from_csv = plan(header + body, tmp_path)
    assert [row.place for row in from_csv] == ["line 2", "line 4"]
    for one, other in zip(from_json, from_csv, strict=True):
        assert (one.id, one.model, one.params, one.extra) == (
            (other.id, other.model, other.params, other.extra)
        )
    assert from_csv[0].params["images"] == [str(tmp_path / "a.png")]
    (ref,) = from_csv[1].sources
    assert (ref.id, ref.field) == ("一", "image")


def test_a_chinese_column_means_what_the_model_has():
    rows = [
        {"模型": model, "提示词": prompt, "图片": "@b"}
        for model, prompt in (("hy-image-v3.0", "x"), ("hy-3d-3.0", None), ("yt-video-2.0", None))
    ]
    found = make_plan([*rows, {"id": "b", "model": "hy-image-v3.0", "prompt": "y"}])
    assert [ref.field for row in found for ref in row.sources] == ["images", "image_url", "image"]


def test_cells_become_what_their_parameters_are(tmp_path):
    text = (
        "model,prompt,enable_pbr,face_count,images,template,image_url,logo_param\n"
        "hy-3d-3.0,,是,40000,,,@a,\n"
        'yt-video-fx,,,,"@a\n@a",hug,,\n'
        'hy-image-v3.0,x,,,@a | @a,,,"{""logo_url"": ""https://x.test/a.png""}"\n'
        'hy-image-v3.0,y,,,"[""@a""]",,,\n'
    )
    ids = (
        "id," + text.replace("\nhy", "\n,hy").replace("\nyt", "\n,yt") + "a,hy-image-lite,z,,,,,\n"
    )
    shape, effect, picture, single, _ = plan(ids, tmp_path)
    assert (shape.params["enable_pbr"], shape.params["face_count"]) == (True, 40000)
    assert [ref.id for ref in effect.params["images"]] == ["a", "a"]
    assert [ref.id for ref in picture.params["images"]] == ["a", "a"]
    assert [ref.id for ref in single.params["images"]] == ["a"]
    assert picture.params["logo_param"] == {"logo_url": "https://x.test/a.png"}


def test_every_wrong_row_is_named_by_line_and_field(tmp_path):
    lines = [
        '{"model": "hy-image-lite", "promt": "雨"}',
        '{"model": "hy-imag-lite", "prompt": "雨"}',
        "",
        '{"prompt": "雨"}',
        '{"model": "hy-image-lite", "prompt": "雨", "seed": "x"}',
        '{"model": "yt-video-2.0", "image": "refs/none.png"}',
        '{"model": "hy-image-lite", "prompt": "雨", "id": ""}',
        '{"model": "hy-video-1.5", "prompt": "雨", "job_id": "123456"}',
        "{broken",
        "[1]",
        '{"model": "ep-1", "prompt": "雨", "kind": "music"}',
        '{"model": "ep-1", "prompt": "雨"}',
        '{"model": "hy-image-lite", "prompt": "雨", "模型": "another"}',
    ]
    file = tmp_path / "shots.jsonl"
    file.write_text("\n".join(lines), "utf-8")
    found = faults(file)
    for line, name in [
        (1, "promt: not a parameter of hy-image-lite; did you mean prompt?"),
        (2, "model: 'hy-imag-lite' is not listed; did you mean hy-image-lite?"),
        (4, "model: missing"),
        (5, "seed: 'x', an integer"),
        (6, "image: no file 'refs/none.png'"),
        (7, "id: one line of text is needed"),
        (8, "job_id: "),
        (9, "not one JSON object a line"),
        (10, "list, an object with columns is needed"),
        (11, "kind: 'music' is none of image, video, 3d"),
        (12, "model: 'ep-1' is not listed"),
        (13, "模型: model is given twice"),
    ]:
        assert f"line {line}: {name}" in found, (line, found)
    assert found.startswith("the rows have 12 faults")


def test_a_manifest_that_is_not_utf_8_is_refused_with_advice(tmp_path):
    for coding in ("gbk", "utf-16"):
        file = tmp_path / "shots.csv"
        file.write_bytes("模型,提示词\nhy-image-lite,雨\n".encode(coding))
        with pytest.raises(InvalidRequestError, match="is not UTF-8") as raised:
            make_plan(file)
        assert "CSV UTF-8" in str(raised.value)


def test_broken_tables_are_named_by_line(tmp_path):
    file = tmp_path / "shots.csv"
    file.write_text("model,prompt,prompt\nhy-image-lite,x,y,z\n", "utf-8")
    assert "line 1: the header names 'prompt' twice" in faults(file)
    assert "line 2: 4 cells, the header has 3 columns" in faults(file)
    file.write_text("", "utf-8")
    assert "has no rows" in faults(file)
    assert "No such file" in faults(tmp_path / "none.csv")
    assert "row 2: int, an object" in faults([{"model": "hy-image-lite", "prompt": "x"}, 3])


def test_standard_input_is_a_manifest(monkeypatch):
    data = io.BytesIO('{"model": "hy-image-lite", "prompt": "雨"}'.encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
    (row,) = make_plan("-")
    assert (row.place, row.params["prompt"]) == ("line 1", "雨")


def test_an_id_from_the_content_changes_with_its_row_alone():
    def ids(*prompts):
        return [r.id for r in make_plan([{"model": "hy-image-lite", "prompt": p} for p in prompts])]

    assert ids("a", "b") == [*ids("a"), *ids("b")]
    assert ids("a", "c")[0] == ids("a", "b")[0]
    assert len({*ids("a", "b", "c")}) == 3


def test_double_rows_are_named():
    row = {"model": "hy-image-lite", "prompt": "x"}
    assert "row 2: the same as row 1" in faults([row, row])
    assert "row 2: id: 'a' is also the id of row 1" in faults(
        [{**row, "id": "a"}, {"编号": "a", **row}]
    )
    assert len(make_plan([{**row, "id": n} for n in (1, 2)])) == 2


def test_a_text_that_begins_like_a_reference_is_a_text():
    (row,) = make_plan([{"model": "hy-image-lite", "prompt": "@home"}])
    assert row.params["prompt"] == "@home"
    assert not row.sources
    assert not any(isinstance(value, RowRef) for value in row.params.values())


def test_what_is_no_rows_at_all_is_refused():
    for wrong in (None, 5, {"model": "hy-image-lite", "prompt": "x"}):
        with pytest.raises(InvalidRequestError, match="rows: "):
            make_plan(wrong)
