"""Every shipped workflow, as the browser opens it, against what a real server says of its nodes."""

import importlib.util
import json
import re
from itertools import combinations
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import tomllib

from scripts.comfy_server import ROOT, Server

pytestmark = pytest.mark.newest
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSIONS = {"comfy-core": "0.30.0", PROJECT["name"]: PROJECT["version"]}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
HOSTS = {"huggingface.co", "civitai.com", "civitai.red"}  # the page has a Download button for these
TITLE_HEIGHT = 30  # above a node's position


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def graph(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def object_info(server: Server) -> dict:
    return server.get("/object_info")


def declared_inputs(definition: dict) -> dict[str, tuple[str, dict]]:
    """name -> (type, options), in the order of the node's sockets and widgets."""
    declared = {}
    for group in ("required", "optional"):
        for name in definition["input_order"].get(group, []):
            kind, *options = definition["input"][group][name]
            declared[name] = ("COMBO" if isinstance(kind, list) else kind, options[0] if options else {})
    return declared


def is_ours(node: dict) -> bool:
    """A newer ComfyUI may add inputs and outputs to its own nodes; it then fills in what a saved workflow lacks."""
    return node["type"].startswith("ASUKA_")


def widget_values(node: dict, definition: dict) -> dict:
    """name -> value of a node's widgets; ComfyUI puts one more behind a seed, and last the button of a file to upload."""
    names, uploads = [], False
    for name, (kind, options) in declared_inputs(definition).items():
        if kind in WIDGETS:
            names += [name] + ["control_after_generate"] * bool(options.get("control_after_generate"))
            uploads |= any(options.get(f"{medium}_upload") for medium in ("image", "video"))
    return dict(zip(names + ["upload"] * uploads, node["widgets_values"], strict=is_ours(node)))


def executed(graph: dict) -> list[dict]:
    return [node for node in graph["nodes"] if node["type"] != "MarkdownNote"]


def test_nodes_and_slots_are_the_servers(graph, object_info):
    for node in executed(graph):
        definition = object_info[node["type"]]
        declared = declared_inputs(definition)
        for slot in node["inputs"]:
            if slot["type"] != "IMAGEUPLOAD":
                assert slot["type"] == declared[slot["name"]][0]
                assert ("widget" in slot) == (slot["type"] in WIDGETS)
        missing = declared.keys() - {slot["name"] for slot in node["inputs"]}
        required = definition["input"].get("required", {}).keys()
        assert not (
            missing if is_ours(node) else {name for name in missing & required if declared[name][0] not in WIDGETS}
        )
        outputs = [(slot["name"], slot["type"]) for slot in node["outputs"]]
        offered = list(zip(definition["output_name"], definition["output"], strict=True))
        assert outputs == (offered if is_ours(node) else offered[: len(outputs)])


def test_links_agree_at_both_ends(graph):
    nodes = {node["id"]: node for node in graph["nodes"]}
    links = {link[0]: link[1:] for link in graph["links"]}
    assert len(links) == len(graph["links"])
    assert max(links) <= graph["last_link_id"]
    assert max(nodes) <= graph["last_node_id"]
    for link, (source, output, target, socket, kind) in links.items():
        assert link in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][socket]["link"] == link
        assert nodes[source]["outputs"][output]["type"] == nodes[target]["inputs"][socket]["type"] == kind
        assert nodes[source]["order"] < nodes[target]["order"]
    ends = [slot["link"] for node in nodes.values() for slot in node["inputs"] if slot["link"]]
    starts = [link for node in nodes.values() for slot in node["outputs"] for link in slot["links"] or []]
    assert sorted(ends) == sorted(starts) == sorted(links)


def test_same_graph_as_its_api_twin(path, graph, object_info):
    twin = json.loads((path.parent / "api" / path.name).read_text())
    sources = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    prompt = {}
    for node in executed(graph):
        values = widget_values(node, object_info[node["type"]])
        inputs = {name: value for name, value in values.items() if name not in ("control_after_generate", "upload")}
        inputs |= {slot["name"]: sources[slot["link"]] for slot in node["inputs"] if slot["link"]}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    assert prompt == {key: {"class_type": n["class_type"], "inputs": n["inputs"]} for key, n in twin.items()}


def test_every_node_says_which_pack_it_needs(graph):
    for node in executed(graph):
        pack = PROJECT["name"] if is_ours(node) else "comfy-core"
        properties = node["properties"]
        assert (properties["cnr_id"], properties["ver"]) == (pack, VERSIONS[pack])
        assert properties["Node name for S&R"] == node["type"]


def test_every_model_says_where_it_comes_from(graph, object_info):
    """A model has the name its widget shows."""
    for node in executed(graph):
        files = {value for value in node["widgets_values"] if str(value).endswith((".safetensors", ".ckpt"))}
        models = node["properties"].get("models", [])
        assert files == {model["name"] for model in models}, node["type"]
        for model in models:
            assert model["directory"] in {"asuka", "checkpoints", "diffusion_models", "text_encoders", "vae"}
            assert model["url"].startswith("https://")
            assert ("hash" in model) == ("hash_type" in model)


@pytest.fixture(scope="module")
def allowed() -> tuple[list[str], list[str]]:
    """How an address must begin, and a file's name end, for a Download button: the lists of the installed page itself."""
    assets = Path(importlib.util.find_spec("comfyui_frontend_package").origin).parent / "static" / "assets"
    code = next(text for text in map(Path.read_text, sorted(assets.glob("*.js"))) if "`https://civitai.red/`" in text)
    lists = [re.findall("`([^`]+)`", found) for found in re.findall(r"=\[((?:`[^`]+`,?)+)\]", code)]
    return tuple(
        next(found for found in lists if known in found) for known in ("https://huggingface.co/", ".safetensors")
    )


def test_page_offers_a_download_of_just_that_file(graph, allowed):
    """Where it does not, the workflow's note says what to do."""
    addresses, suffixes = allowed
    assert {urlsplit(address).hostname for address in addresses} - {"localhost"} == HOSTS
    text = notes(graph)
    for node in executed(graph):
        for model in node["properties"].get("models", []):
            button = model["url"].startswith(tuple(addresses)) and model["name"].endswith(tuple(suffixes))
            assert button == (urlsplit(model["url"]).hostname in HOSTS), model
            if button:
                assert model["url"].endswith("/" + model["name"])
                assert "/resolve/" in model["url"]
            else:
                remedy = "scripts/install_miniature.py" if "miniature" in model["name"] else r"\.md|convert\.py"
                assert re.search(remedy, text), model


def notes(graph: dict) -> str:
    return " ".join(node["widgets_values"][0] for node in graph["nodes"] if node["type"] == "MarkdownNote")


def test_nodes_do_not_overlap(graph):
    boxes = [(n["pos"][0], n["pos"][1] - TITLE_HEIGHT, *n["size"], n["id"]) for n in graph["nodes"]]
    for (ax, ay, aw, ah, a), (bx, by, bw, bh, b) in combinations(boxes, 2):
        apart = ax + aw <= bx or bx + bw <= ax or ay + ah + TITLE_HEIGHT <= by or by + bh + TITLE_HEIGHT <= ay
        assert apart, (a, b)


def test_a_note_tells_what_to_download(graph):
    text = notes(graph)
    for node in executed(graph):
        for model in node["properties"].get("models", []):
            assert model["name"] in text
            assert model["directory"] in text


def test_samples_that_workflows_open_are_shipped(path):
    twin = json.loads((path.parent / "api" / path.name).read_text())
    for node in twin.values():
        for name in ("image", "file", "folder"):
            value = node["inputs"].get(name)
            if isinstance(value, str) and node["class_type"].startswith("Load"):
                assert (path.parent / "samples" / value).exists()
