"""Paid jobs: submit, watch, collect, keep. Nothing here knows LangChain's tools."""

from __future__ import annotations

from langchain_tokenhub.jobs.models import Job, MediaFile, MediaResult

__all__ = ["Job", "MediaFile", "MediaResult"]
