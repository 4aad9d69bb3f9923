"""A running ComfyUI, asked over HTTP: the methods run exactly as users run them."""

import hashlib
import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import requests
from PIL import Image

from .hashes import sha256


@dataclass(frozen=True)
class ComfyUIConfig:
    """Where ComfyUI runs, with this extension in it."""

    url: str = "http://127.0.0.1:8188"
    models: str | None = None  # its models folder, for the hashes of the weights; None: not hashed


class ComfyUIError(RuntimeError):
    """ComfyUI does not answer, or refused or failed a graph; the message is its own."""


class ComfyUI:
    """Raises ComfyUIError."""

    def __init__(self, config: ComfyUIConfig):
        self.config = config
        self.version = self.request("GET", "/system_stats").json()["system"]["comfyui_version"]

    def request(self, verb: str, path: str, **options) -> requests.Response:
        try:
            response = requests.request(verb, self.config.url + path, timeout=60, **options)
        except requests.RequestException as error:
            raise ComfyUIError(f"no ComfyUI answers at {self.config.url}; start it, or correct comfyui.url") from error
        if not response.ok:
            raise ComfyUIError(f"ComfyUI refused {path}: {response.text}")
        return response

    def weights(self, files: dict[str, str]) -> dict[str, str]:
        """SHA-256 of files {name: folder of models/}, or "not hashed". Raises FileNotFoundError."""
        if self.config.models is None:
            return dict.fromkeys(files, "not hashed")
        paths = {name: Path(self.config.models, folder, name) for name, folder in files.items()}
        for name, path in paths.items():
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path.parent} has no {name}; put it there, or correct comfyui.models (the miniature's ablations are made by python -m training.ablations)"
                )
        return {name: sha256(path) for name, path in paths.items()}

    def upload(self, image: np.ndarray, hole: np.ndarray) -> str:
        """Gives ComfyUI an image (H, W, 3) uint8, its hole in alpha as the mask editor does it. It is named by its
        contents, so that two benchmarks on one ComfyUI do not take each other's."""
        rgba = np.dstack([image, np.where(hole, 0, 255).astype(np.uint8)])
        buffer = io.BytesIO()
        Image.fromarray(rgba).save(buffer, "png", compress_level=1)
        name = f"asuka-{hashlib.sha256(buffer.getvalue()).hexdigest()[:16]}.png"
        files = {"image": (name, buffer.getvalue(), "image/png")}
        self.request("POST", "/upload/image", files=files, data={"overwrite": "true", "type": "temp"})
        return f"{name} [temp]"

    def finished(self, prompt_id: str) -> dict | None:
        return self.request("GET", f"/history/{prompt_id}").json().get(prompt_id)

    def queued(self, prompt_id: str) -> bool:
        queue = self.request("GET", "/queue").json()
        return any(prompt_id in entry for entry in queue["queue_running"] + queue["queue_pending"])

    def image(self, graph: dict, node: str) -> np.ndarray:
        """Runs a graph in API format and returns the image (H, W, 3) uint8 that one of its nodes shows."""
        # ComfyUI up to 0.24 tells none but clients what a node had shown whose output it kept.
        asked = {"prompt": graph, "client_id": "asuka"}
        prompt_id = self.request("POST", "/prompt", json=asked).json()["prompt_id"]
        while not (entry := self.finished(prompt_id)):
            time.sleep(0.05)
            if not self.queued(prompt_id) and not self.finished(prompt_id):
                raise ComfyUIError(f"ComfyUI at {self.config.url} lost the graph: stopped, or taken off the queue")
        for kind, message in entry["status"]["messages"]:
            if kind in {"execution_error", "execution_interrupted"}:
                raise ComfyUIError(f"ComfyUI, {message['node_type']}: {message.get('exception_message', kind).strip()}")
        shown = entry["outputs"][node]["images"][0]
        return np.asarray(Image.open(io.BytesIO(self.request("GET", "/view", params=shown).content)).convert("RGB"))
