"""Warnings: where they point, and that they cost nothing."""

from __future__ import annotations

import logging
import warnings

import pytest

from langchain_tokenhub._warnings import suppress_warnings, warn_user
from langchain_tokenhub.params import params_class


def test_a_warning_points_at_the_users_line():
    with pytest.warns(UserWarning, match="seed has no effect") as caught:
        params_class("hy-image-v3.0")(prompt="雨", seed=1)
    assert [one.filename for one in caught] == [__file__]


def test_a_filter_that_makes_warnings_errors_makes_a_log_line_of_ours(caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_user("a file is missing")
    assert caplog.record_tuples == [("langchain_tokenhub", logging.WARNING, "a file is missing")]


def test_warnings_can_be_suppressed(recwarn):
    with suppress_warnings():
        warn_user("said before")
    assert not recwarn.list
