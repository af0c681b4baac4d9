"""The harness profile that `deepagents` finds by its entry point."""

from __future__ import annotations

import importlib

SUFFIX = (
    "Image, video and 3D tools submit jobs that cost money. Call such a tool once for each thing "
    "that is asked for, never to check on a job: a repeated call pays again. To wait for a job or "
    "to collect it, pass its ID as job_id. If a tool's answer says not to call again, tell the "
    "user."
)


def register() -> None:
    """Register the profile for all models of this package."""
    deepagents = importlib.import_module("deepagents")  # not a dependency
    profile = deepagents.HarnessProfile(system_prompt_suffix=SUFFIX)
    deepagents.register_harness_profile("tokenhub", profile)
