"""The miniature in place of whatever weights a workflow names, so that it can run here."""

from __future__ import annotations

import copy

from scripts.comfy_server import WEIGHTS


def with_miniature(prompt: dict) -> dict:
    """A workflow in API format with the miniature's files. It has no text encoder: prompts are made from the prior.

    Raises ValueError for a workflow whose model the miniature cannot stand in for.
    """
    prompt = copy.deepcopy(prompt)
    kinds = {node["class_type"] for node in prompt.values()}
    if "UNETLoader" in kinds:
        raise ValueError("the miniature stands in for SD-1.5 checkpoints only")
    for node in prompt.values():
        if node["class_type"] == "CheckpointLoaderSimple":
            node["inputs"]["ckpt_name"] = WEIGHTS["checkpoints"][0]
        elif node["class_type"] == "ASUKA_Load" and node["inputs"]["file"] not in WEIGHTS["asuka"]:
            node["inputs"]["file"] = WEIGHTS["asuka"][0]
        elif node["class_type"] == "ASUKA_InpaintPrepare":
            node["inputs"]["resolution"] = 256
    texts = [key for key, node in prompt.items() if node["class_type"] == "CLIPTextEncode"]
    if texts:
        prepared = next(key for key, node in prompt.items() if node["class_type"] == "ASUKA_InpaintPrepare")
        prompt["900"] = {"class_type": "ASUKA_Load", "inputs": {"file": WEIGHTS["asuka"][0]}}
        seen = {"mae": ["900", 0], "image": [prepared, 0], "mask": [prepared, 1]}
        prompt["901"] = {"class_type": "ASUKA_MAEPriorEncode", "inputs": seen}
    for key in texts:
        strength = 1.0 if prompt[key]["inputs"]["text"] else 0.0
        inputs = {"alignment": ["900", 1], "prior": ["901", 0], "strength": strength}
        prompt[key] = {"class_type": "ASUKA_AlignConditioning", "inputs": inputs}
    return prompt
