"""Paid jobs: submit, poll, collect, record. LangChain's tools are in `tools`."""

from __future__ import annotations

from langchain_tokenhub.jobs.models import Job, MediaFile, MediaResult

__all__ = ["Job", "MediaFile", "MediaResult"]
