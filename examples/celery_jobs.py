"""Many jobs for a team that has Celery: a task that is repeated is paid once.

python examples/celery_jobs.py

Messages are JSON. Task and tool hold no key: a worker finds it in its own environment. Each
delivery of a message, and each retry, makes the same call, so the ledger resumes its job. In
production name a broker, and a PostgreSQL `ledger` that all workers reach.
"""

from __future__ import annotations

from celery import Celery, Task
from celery.contrib.testing.worker import start_worker

from langchain_tokenhub import TokenHubVideoTool
from langchain_tokenhub.errors import RETRYABLE, APITimeoutError
from langchain_tokenhub.testing.offline import emulator_unless_key

app = Celery("studio", broker="memory://", backend="cache+memory://")
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_acks_late=True,  # the message of a worker that died goes to another
    task_reject_on_worker_lost=True,
    broker_transport_options={"polling_interval": 0.1},
)
LEDGER = "sqlite:///studio-out/ledger.db"


@app.task(bind=True, autoretry_for=RETRYABLE, retry_backoff=1, max_retries=5, ignore_result=False)
def shoot(self: Task, prompt: str) -> str:
    tool = TokenHubVideoTool(save_to="studio-out", ledger=LEDGER)
    result = tool.generate(prompt=prompt)
    if self.request.retries == 0:
        raise APITimeoutError("as if the worker had lost its connection after it had paid")
    return str(result.files[0].path)


if __name__ == "__main__":
    with emulator_unless_key() as hub:
        with start_worker(app, pool="threads", concurrency=2, perform_ping_check=False):
            sent = [shoot.delay(f"第{number}镜：小河流水") for number in (1, 2)]
            for one in sent:
                print(one.get(timeout=60))
        if hub:
            print(f"submitted {len(hub.jobs)} job(s) for {len(sent)} tasks, each run twice")
