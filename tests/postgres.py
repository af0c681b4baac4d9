"""A PostgreSQL server for tests, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

PASSWORD = "pg-canary-0123"


def programs() -> Path | None:
    """Return the folder of the newest server's programs, which Debian has in no PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: p.parts[-3])
    if found:
        return found[-1].parent
    return Path(path).parent if (path := shutil.which("initdb")) else None


class Postgres:
    """A cluster that can be stopped and started; it refuses root, so `postgres` runs it there."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._runs = False
        self._folder = Path(tempfile.mkdtemp(prefix="tokenhub-pg-"))
        self._user: dict[str, Any] = {}
        if os.getuid() == 0:
            shutil.chown(self._folder, "postgres")
            self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port = listener.getsockname()[1]
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        how = ["-U", "tokenhub", "-A", "scram-sha-256", "-N", f"--pwfile={password}"]
        self._run("initdb", "-D", self._folder / "data", *how)
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://tokenhub:{PASSWORD}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start, unless it runs."""
        if self._runs:
            return
        self._runs = True
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -F"
        self._control("-w", "-l", self._folder / "log", "-o", options, "start")

    def stop(self) -> None:
        """Stop as a crash does: connections are cut."""
        if self._runs:
            self._runs = False
            self._control("-m", "immediate", "stop")

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _control(self, *words: Any) -> None:
        self._run("pg_ctl", "-D", self._folder / "data", *words)

    def _run(self, program: str, *words: Any) -> None:
        command = [self._programs / program, *words]
        out = self._folder / "out"  # no pipe: the server would hold it open
        with out.open("wb") as log:
            done = subprocess.run(
                command, cwd=self._folder, stdout=log, stderr=log, check=False, **self._user
            )
        assert done.returncode == 0, out.read_text()
