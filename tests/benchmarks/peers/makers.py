"""Who is put to the test with paid jobs: each peer under one set of verbs."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from models import KEY, PROMPT, Httpx, Subject

JOB = "job-1430000128"
LINK = "https://files.invalid/a.mp4"


class Maker(Subject):
    """A client of paid jobs; `words` are its service's for a job's states."""

    words: ClassVar[dict[str, str]] = {"running": "in_progress", "done": "completed"}

    def submit(self) -> Any:
        raise NotImplementedError

    def wait(self, seconds: float) -> Any:
        """Submit and wait; a client that takes no deadline is given none."""
        raise NotImplementedError

    async def asubmit(self) -> Any:
        raise NotImplementedError

    def download(self, made: Any) -> None:
        """Read the file of a finished job; a client that knows no files reads none."""

    def state(self, word: str, link: str = LINK) -> dict[str, Any]:
        """Return a job as each of the services would show it, in one body."""
        job = {"id": JOB, "request_id": JOB, "status": self.words.get(word, word)}
        dates = {"created_at": "2026-11-22T00:00:00Z", "createdAt": "2026-11-22T00:00:00Z"}
        done = {"data": {"url": link}, "output": [link]} if word == "done" else {"output": None}
        links = {"response_url": link, "status_url": self.url, "cancel_url": self.url}
        more = {"logs": None, "error": None, "model": "m", "version": "v", "input": {}}
        return {**job, **dates, **done, **links, **more, "urls": {"get": self.url}}


class TokenHubVideo(Maker):
    package = "langchain-tokenhub"

    def made(self) -> Any:
        from langchain_tokenhub.tools import TokenHubVideoTool

        urls = [self.url, self.backup] if self.backup else self.url
        return TokenHubVideoTool(api_key=KEY, base_url=urls, timeout=self.timeout)

    def submit(self) -> Any:
        return self.client.submit(prompt=PROMPT)

    async def asubmit(self) -> Any:
        return await self.client.asubmit(prompt=PROMPT)

    def wait(self, seconds: float) -> Any:
        return self.client.generate(prompt=PROMPT, wait_timeout=seconds)

    def download(self, made: Any) -> None:
        made.files[0].read()


class OpenAIImages(Maker):
    package = "openai"

    def made(self) -> Any:
        from openai import OpenAI

        return OpenAI(base_url=self.url, api_key=KEY, timeout=self.timeout)

    def submit(self) -> Any:
        return self.client.images.generate(prompt=PROMPT)

    async def asubmit(self) -> Any:
        return await self.aclient().images.generate(prompt=PROMPT)

    def aclient(self) -> Any:
        from openai import AsyncOpenAI

        return AsyncOpenAI(base_url=self.url, api_key=KEY, timeout=self.timeout)


class OpenAIVideos(OpenAIImages):
    def submit(self) -> Any:
        return self.client.videos.create(prompt=PROMPT)

    async def asubmit(self) -> Any:
        return await self.aclient().videos.create(prompt=PROMPT)

    def wait(self, seconds: float) -> Any:
        return self.client.videos.create_and_poll(prompt=PROMPT)


class Fal(Maker):
    package = "fal_client"
    words: ClassVar = {"running": "IN_PROGRESS", "done": "COMPLETED"}

    def made(self) -> Any:
        import fal_client.client as fal

        fal.QUEUE_URL_FORMAT = f"{self.url}/"  # it builds https addresses alone
        if self.backup:  # on the same port, as its own backup is
            fal._BACKUP_DOMAINS = {urlsplit(self.url).hostname: urlsplit(self.backup).hostname}
        return fal.SyncClient(key=KEY, default_timeout=self.timeout)

    def submit(self) -> Any:
        return self.client.submit("maker/video", {"prompt": PROMPT})

    async def asubmit(self) -> Any:
        import fal_client

        client = fal_client.AsyncClient(key=KEY, default_timeout=self.timeout)
        return await client.submit("maker/video", {"prompt": PROMPT})

    def wait(self, seconds: float) -> Any:
        return self.client.subscribe("maker/video", {"prompt": PROMPT}, client_timeout=seconds)


class Replicate(Maker):
    package = "replicate"
    words: ClassVar = {"running": "processing", "done": "succeeded"}

    def made(self) -> Any:
        from replicate.client import Client

        return Client(api_token=KEY, base_url=self.url, timeout=self.timeout)

    def submit(self) -> Any:
        return self.client.predictions.create(version="v" * 64, input={"prompt": PROMPT})

    async def asubmit(self) -> Any:
        create = self.client.predictions.async_create
        return await create(version="v" * 64, input={"prompt": PROMPT})

    def wait(self, seconds: float) -> Any:
        job = self.submit()
        job.wait()
        if job.status != "succeeded":
            raise RuntimeError(job.status)
        return job

    def download(self, made: Any) -> None:
        from replicate.helpers import FileOutput

        FileOutput(made.output[0], self.client).read()  # as `run` returns for https


class Runway(Maker):
    package = "runwayml"
    words: ClassVar = {"running": "RUNNING", "done": "SUCCEEDED"}

    def made(self) -> Any:
        from runwayml import RunwayML

        return RunwayML(api_key=KEY, base_url=self.url, timeout=self.timeout)

    def submit(self) -> Any:
        return self.client.text_to_image.create(**self.asked())

    async def asubmit(self) -> Any:
        from runwayml import AsyncRunwayML

        client = AsyncRunwayML(api_key=KEY, base_url=self.url, timeout=self.timeout)
        return await client.text_to_image.create(**self.asked())

    def wait(self, seconds: float) -> Any:
        return self.submit().wait_for_task_output(timeout=seconds)

    def asked(self) -> dict[str, str]:
        return {"model": "gen4_image", "prompt_text": PROMPT, "ratio": "1920:1080"}


class HttpxByHand(Maker):
    """httpx alone, as a script would use it."""

    package = "httpx"

    def made(self) -> Any:
        import httpx

        return httpx.Client(timeout=self.timeout)

    def wait(self, seconds: float) -> Any:
        return self.client.post(self.url, headers=Httpx.headers).json()

    def download(self, made: Any) -> None:
        self.client.get(made["response_url"])
