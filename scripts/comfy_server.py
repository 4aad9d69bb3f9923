"""A real ComfyUI server in a scratch folder, with this extension and the miniature weights in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "asuka-inpaint"  # what the extension's folder is called under custom_nodes
WEIGHTS = {
    "asuka": ["asuka-miniature.safetensors", "asuka-miniature-spl.safetensors"],
    "checkpoints": ["asuka-miniature-base.safetensors"],
}


class ServerError(RuntimeError):
    """The server did not start, or refused or failed a prompt; the message is ComfyUI's own."""


def make_base(base: Path) -> None:
    """Lays out models/, input/, output/ and custom_nodes/ with links to this repository, and the sample photos."""
    for folder in ("custom_nodes", "input", "output", "models/asuka", "models/checkpoints", "user", "temp"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    link(ROOT, base / "custom_nodes" / FOLDER)
    shutil.copytree(ROOT / "workflows" / "samples", base / "input", dirs_exist_ok=True)
    for folder, names in WEIGHTS.items():
        for name in names:
            link(ROOT / "demo" / name, base / "models" / folder / name)


def link(target: Path, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    path.symlink_to(target)


class Server:
    """`python main.py` on a port of its own; stops with the context."""

    def __init__(self, comfyui: Path, python: str, base: Path, arguments: list[str]):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url, self.base, self.log = f"http://127.0.0.1:{port}", base, base / "server.log"
        self.client_id = uuid.uuid4().hex
        command = [
            *(python, "main.py", "--port", str(port), "--base-directory", str(base)),
            *("--database-url", "sqlite:///:memory:", "--disable-api-nodes"),
            *("--disable-all-custom-nodes", "--whitelist-custom-nodes", FOLDER),
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                cwd=comfyui,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def __enter__(self) -> Server:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                self.get("/system_stats")
                return self
            time.sleep(0.3)
        self.process.kill()
        raise ServerError(f"ComfyUI did not start; the end of {self.log}:\n" + self.log.read_text()[-3000:])

    def __exit__(self, *exception) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def open(self, path: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"} if data else {})
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read()

    def get(self, path: str):
        return json.loads(self.open(path))

    def queue(self, prompt: dict, **settings) -> str:
        """Queues an API-format workflow and returns its id. Raises ServerError with the reasons of a refusal."""
        body = json.dumps({"prompt": prompt, "client_id": self.client_id, "extra_data": settings}).encode()
        try:
            return json.loads(self.open("/prompt", body))["prompt_id"]
        except urllib.error.HTTPError as error:
            answer = json.loads(error.read())
            reasons = [
                f"{node['class_type']}: {problem['message']}: {problem['details']}"
                for node in answer.get("node_errors", {}).values()
                for problem in node["errors"]
            ]
            raise ServerError("; ".join(reasons) or str(answer["error"])) from None

    def wait(self, prompt_id: str, timeout: float = 1800) -> dict:
        """The outputs of a finished prompt, {node id: ui outputs}. Raises ServerError with the message of a failed node."""
        for _ in self.poll(timeout):
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry is None:
                continue
            for kind, message in entry["status"]["messages"]:
                if kind == "execution_error":
                    raise ServerError(f"{message['node_type']}: {message['exception_message'].strip()}")
                if kind == "execution_interrupted":
                    raise ServerError("interrupted")
            return entry["outputs"]
        raise ServerError(f"no result after {timeout:g} s; see {self.log}")

    def poll(self, timeout: float) -> Iterator[None]:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerError(f"ComfyUI died; the end of {self.log}:\n" + self.log.read_text()[-3000:])
            yield
            time.sleep(0.2)

    def run(self, prompt: dict) -> dict:
        return self.wait(self.queue(prompt))

    def image_file(self, reference: dict) -> Path:
        """The file of an image that an output node names."""
        return self.base / reference["type"] / reference["subfolder"] / reference["filename"]
