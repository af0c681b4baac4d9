"""The harness profile that `deepagents` finds by its entry point."""

from __future__ import annotations

SUFFIX = (
    "Image, video and 3D tools submit jobs that cost money. Call such a tool once for each thing "
    "that is asked for, never to check on a job: a repeated call pays again. To wait for a job or "
    "to collect it, give its ID as job_id. If a tool's answer says that nothing may be called "
    "again, tell the user."
)


def register() -> None:
    """Register the profile for all models of this package."""
    from deepagents import HarnessProfile, register_harness_profile  # type: ignore[import-not-found, unused-ignore]  # not a dependency

    register_harness_profile("tokenhub", HarnessProfile(system_prompt_suffix=SUFFIX))
