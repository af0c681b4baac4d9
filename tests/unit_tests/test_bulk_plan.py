"""The plan of a run: the graph of rows, prices and times."""

from __future__ import annotations

import pytest

from langchain_tokenhub import InvalidRequestError
from langchain_tokenhub.bulk.plan import estimates, make_plan, with_files
from tests.bulk_jobs import film, still


def faults(rows, **options):
    with pytest.raises(InvalidRequestError) as raised:
        make_plan(rows, **options)
    return raised.value.message


def test_rows_may_stand_in_any_order():
    rows = make_plan([film("b", "a"), still("a")])
    assert [row.id for row in rows] == ["b", "a"]
    assert with_files(rows[0].params, str.upper)["image"] == "A"


def test_a_cycle_is_an_error_that_names_its_rows():
    rows = [{**still(name), "images": [f"@{source}"]} for name, source in ("ab", "bc", "ca")]
    assert "cycle: a (row 1) → b (row 2) → c (row 3) → a (row 1)" in faults(rows)
    assert "cycle: a (row 1) → a (row 1)" in faults([{**still("a"), "images": ["@a"]}])


def test_a_source_that_does_not_fit_is_named():
    assert "row 1: image: @shot-2: no row has this id; did you mean @shot-1?" in faults(
        [film("x", "shot-2"), still("shot-1")]
    )
    wrong = faults([still("a"), film("b", "a"), film("c", "b")])
    assert "row 3: image: @b: that row makes video" in wrong


def test_a_view_of_a_3d_model_may_be_another_row():
    views = [{"view_type": "left", "view_image_url": "@a"}]
    rows = [{"model": "hy-3d-3.0", "image_url": "@a", "multi_view_images": views}, still("a")]
    made = make_plan(rows)[0]
    assert [ref.field for ref in made.sources] == [
        "image_url",
        "multi_view_images[0].view_image_url",
    ]


def test_prices_are_the_highest_estimates():
    rows = make_plan([still("a"), film("b", "a"), {**film("c", "a"), "resolution": "480p"}])
    assert [row.cny for row in rows] == [1.2, 6.0, 2.4]


def test_a_budget_needs_a_price_for_every_model():
    rows = [{"model": "ep-1", "kind": "image", "prompt": "x"}, still("a")]
    assert "row 1: model: no price of ep-1 is known" in faults(rows, has_budget=True)
    for price in (2.5, {"ep-1": 2.5}):
        found = make_plan(rows, price_cny=price, has_budget=True)
        assert [row.cny for row in found] == [2.5, 1.2]
    own = make_plan(rows, price_cny={"hy-image-v3.0": 0.3})
    assert [row.cny for row in own] == [None, 0.3]


def test_the_table_counts_rows_cost_and_hours():
    plan = make_plan([still(str(n)) for n in range(600)] + [film("f", "0")])
    image, video = estimates(plan)
    assert (image.rows, image.cny, round(image.hours, 2)) == (600, 720.0, 2.0)
    assert (video.rows, video.cny) == (1, 6.0)
    assert estimates(plan, accounts=2)[0].hours == pytest.approx(1.0)
    assert estimates(plan, in_flight=4)[0].hours == pytest.approx(0.5)


def test_an_answer_with_a_link_is_asked_for_where_there_is_a_choice():
    row = {"model": "hy-image-lite", "prompt": "x"}
    assert make_plan([row])[0].params["rsp_img_type"] == "url"
    given = make_plan([{**row, "rsp_img_type": "base64"}])[0]
    assert given.params["rsp_img_type"] == "base64"
