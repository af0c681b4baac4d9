"""Sidecars: a job is put together from what lies beside each of its files."""

from __future__ import annotations

import pytest

from langchain_tokenhub.jobs.history import sidecar_job, write_job_sidecar
from langchain_tokenhub.jobs.models import Job, JobRequest, MediaFile

ORDER = JobRequest(body={"prompt": "椅子"}, label="椅子")


@pytest.fixture
def job(tmp_path):
    """A job of an OBJ and a GLB, both saved."""
    files = []
    for name in ("b-143000.obj", "a-143000.glb"):
        path = tmp_path / name
        path.write_bytes(b"v 0 0 0")
        files.append(MediaFile(type=path.suffix[1:], path=path, preview_path=path))
    made = Job(kind="3d", model="hy-3d-3.0", id="143000", status="completed", files=files)
    for index, file in enumerate(files):
        write_job_sidecar(made, file, index, ORDER)
    return made


def test_a_job_comes_back_with_all_its_files_in_their_order(job, tmp_path):
    assert sidecar_job(tmp_path, "143000") == (job, ORDER)


def test_a_file_without_its_sidecar_is_known_to_be_missing(job, tmp_path):
    (tmp_path / "b-143000.obj.json").unlink()
    missing, saved = sidecar_job(tmp_path, "143000")[0].files
    assert saved == job.files[1]
    assert (missing.url, missing.path) == (None, None)


def test_a_folder_that_was_moved_knows_its_files(job, tmp_path):
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    found, _ = sidecar_job(moved, "143000")
    assert all(file.path.is_file() for file in found.files)
    assert all(file.preview_path.is_file() for file in found.files)


@pytest.mark.parametrize("text", ["", "[143000", "{}", '{"job": "143000"}', "\ud83d"])
def test_other_peoples_files_are_passed_over(job, tmp_path, text):
    (tmp_path / "a-143000.json").write_text(text, "utf-8", errors="surrogatepass")
    assert sidecar_job(tmp_path, "143000") == (job, ORDER)
    assert sidecar_job(tmp_path, "999") is None
    assert sidecar_job(tmp_path / "none", "143000") is None
