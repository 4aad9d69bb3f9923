"""Describes a ComfyUI graph once and writes it in both of ComfyUI's formats, tidily laid out in columns."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path

CORE_VERSION, PACK, PACK_VERSION = "0.30.0", "asuka-inpaint", "0.1.0"
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
UPLOADS = ("image_upload", "video_upload")  # adds a button, which is a widget, too
WIDTH, COLUMN, GAP, TITLE = 320, 380, 50, 40
NOTE_WIDTH, NOTE_LINE = 440, 85  # in pixels and in characters
WIDE = {"SaveImage": 480, "SaveVideo": 480}
PREVIEW = {  # height of the image
    "LoadImage": 320,
    "LoadImageMask": 260,
    "LoadVideo": 300,
    "SaveImage": 440,
    "SaveVideo": 400,
    "PreviewImage": 300,
    "MaskPreview": 280,
    "ASUKA_MAEPriorEncode": 260,
    "CLIPTextEncode": 60,
}


@dataclass
class Node:
    id: int
    kind: str
    column: int
    title: str | None = None
    inputs: dict = field(default_factory=dict)  # links as (Node, output index), else widget values
    models: list[dict] = field(default_factory=list)
    text: str = ""  # of a note
    height: int = 0

    def __getitem__(self, output: int) -> tuple[Node, int]:
        return self, output


class Graph:
    """Nodes in columns from left to right, each below the last of its column."""

    def __init__(self, name: str, object_info: dict):
        self.name, self.info, self.nodes = name, object_info, []
        self.app_mode: dict = {}

    def node(self, kind: str, column: int, title: str | None = None, models: list[dict] = [], **inputs) -> Node:
        """Adds a node; an input is another node's output (`node[0]`) or a widget's value, else its default."""
        known = self.schema(kind)
        unknown = inputs.keys() - known.keys()
        if unknown:
            raise ValueError(f"{kind} has no {', '.join(sorted(unknown))}, only {', '.join(known)}")
        number = 1 + sum(other.kind != "MarkdownNote" for other in self.nodes)
        node = Node(number, kind, column, title, inputs, models)
        slots = sum(not is_widget(spec) for spec in known.values())
        widgets = sum(is_widget(spec) + after_generate(spec) + uploads(spec) for spec in known.values())
        outputs = len(self.info[kind]["output"])
        node.height = 16 + 20 * max(slots, outputs) + 24 * widgets + PREVIEW.get(kind, 0)
        self.nodes.append(node)
        return node

    def move_last_before(self, node: Node) -> None:
        """For a node on which an earlier one depends: every node keeps its number, which scripts go by."""
        self.nodes.insert(self.nodes.index(node), self.nodes.pop())

    def note(self, text: str) -> None:
        """Adds a note in Markdown, left of the first column. Notes count from 100, so that adding one renumbers nothing."""
        number = 100 + sum(other.kind == "MarkdownNote" for other in self.nodes)
        lines = sum(1 + len(line) // NOTE_LINE for line in text.splitlines())
        self.nodes.append(Node(number, "MarkdownNote", -1, "Read me", text=text, height=50 + 13 * lines))

    def app(self, *widgets: tuple[str, str]) -> None:
        """Opens the workflow in App Mode: these widgets, given as (kind of node, name), and the saved image.

        Of several nodes of a kind, the first is meant. Raises ValueError for a widget that the node does not have.
        """
        inputs = []
        for kind, name in widgets:
            node = next(node for node in self.nodes if node.kind == kind)
            if name not in self.values(node):
                raise ValueError(f"{kind} has no widget {name}, only {', '.join(self.values(node))}")
            inputs.append([node.id, name, *([{"height": PREVIEW[kind]}] if kind == "LoadImage" else [])])
        outputs = [node.id for node in self.nodes if node.kind == "SaveImage"]
        self.app_mode = {"linearMode": True, "linearData": {"inputs": inputs, "outputs": outputs}}

    def schema(self, kind: str) -> dict:
        """Input name -> specification, in the order of the node's slots and widgets."""
        declared = self.info[kind]["input"]
        return {**declared.get("required", {}), **declared.get("optional", {})}

    def slots(self, kind: str) -> list[str]:
        """Names of a node's inputs as the page lists them: sockets before widgets."""
        return sorted(self.schema(kind), key=lambda name: is_widget(self.schema(kind)[name]))

    def values(self, node: Node) -> dict:
        """Widget name -> value."""
        return {
            name: node.inputs.get(name, default(spec))
            for name, spec in self.schema(node.kind).items()
            if is_widget(spec) and not isinstance(node.inputs.get(name), tuple)
        }

    def api(self) -> dict:
        """The format of POST /prompt."""
        prompt = {}
        for node in self.nodes:
            if node.kind == "MarkdownNote":
                continue
            links = {k: [str(v[0].id), v[1]] for k, v in node.inputs.items() if isinstance(v, tuple)}
            values = self.values(node)
            inputs = {
                name: values.get(name, links.get(name))
                for name in self.schema(node.kind)
                if name in values or name in links
            }
            title = node.title or self.info[node.kind]["display_name"]
            prompt[str(node.id)] = {"class_type": node.kind, "inputs": inputs, "_meta": {"title": title}}
        return prompt

    def links(self) -> list[list]:
        """[id, source node, its output, target node, its slot, type] of every connection."""
        links = []
        for node in self.nodes:
            for name, value in node.inputs.items():
                if isinstance(value, tuple):
                    kind = self.info[value[0].kind]["output"][value[1]]
                    slot = self.slots(node.kind).index(name)
                    links.append([len(links) + 1, value[0].id, value[1], node.id, slot, kind])
        return links

    def page_nodes(self, links: list[list]) -> list[dict]:
        bottoms: dict[int, int] = {}
        nodes = []
        for order, node in enumerate(self.nodes):
            y = bottoms.get(node.column, 0)
            bottoms[node.column] = y + node.height + TITLE + GAP
            nodes.append(self.page_node(node, order, y, links))
        return nodes

    def page(self) -> dict:
        """The format of the page, which carries layout, notes and where models come from."""
        links = self.links()
        return {
            "id": identifier(self.name),
            "revision": 0,
            "last_node_id": max(node.id for node in self.nodes),
            "last_link_id": len(links),
            "nodes": self.page_nodes(links),
            "links": links,
            "groups": [],
            "config": {},
            "extra": {"ds": {"scale": 0.8, "offset": [60, 80]}, **self.app_mode},
            "version": 0.4,
        }

    def page_node(self, node: Node, order: int, y: int, links: list[list]) -> dict:
        common = {
            "id": node.id,
            "type": node.kind,
            "pos": [node.column * COLUMN if node.column >= 0 else -(NOTE_WIDTH + COLUMN - WIDTH), y],
            "size": [WIDE.get(node.kind, NOTE_WIDTH if node.column < 0 else WIDTH), node.height],
            "flags": {},
            "order": order,
            "mode": 0,
        }
        if node.kind == "MarkdownNote":
            extra = {
                "title": node.title,
                "properties": {},
                "widgets_values": [node.text],
                "color": "#432",
                "bgcolor": "#653",
            }
            return {**common, "inputs": [], "outputs": [], **extra}
        info, ours = self.info[node.kind], node.kind.startswith("ASUKA_")
        properties = {
            "Node name for S&R": node.kind,
            "cnr_id": PACK if ours else "comfy-core",
            "ver": PACK_VERSION if ours else CORE_VERSION,
        }
        if node.models:
            properties["models"] = node.models
        widgets = []
        for name, spec in self.schema(node.kind).items():
            if not is_widget(spec):
                continue
            value = node.inputs.get(name)
            widgets.append(default(spec) if value is None or isinstance(value, tuple) else value)
            widgets += ["fixed"] * after_generate(spec)
        targets = {link[4]: link[0] for link in links if link[3] == node.id}
        slots = [
            {**self.page_slot(node.kind, name), "link": targets.get(i)} for i, name in enumerate(self.slots(node.kind))
        ]
        if any(uploads(spec) for spec in self.schema(node.kind).values()):
            widgets.append("image")
            slots.append({"name": "upload", "type": "IMAGEUPLOAD", "widget": {"name": "upload"}, "link": None})
        return {
            **common,
            "inputs": slots,
            "outputs": [
                {"name": name, "type": kind, "links": [link[0] for link in links if link[1:3] == [node.id, i]]}
                for i, (name, kind) in enumerate(zip(info["output_name"], info["output"], strict=True))
            ],
            **({"title": node.title} if node.title else {}),
            "properties": properties,
            "widgets_values": widgets,
        }

    def page_slot(self, kind: str, name: str) -> dict:
        spec = self.schema(kind)[name]
        slot = {"name": name, "type": "COMBO" if isinstance(spec[0], list) else spec[0]}
        return slot | ({"widget": {"name": name}} if is_widget(spec) else {})

    def write(self, folder: Path) -> None:
        """Writes <folder>/<name>.json for the page and <folder>/api/<name>.json for scripts."""
        (folder / "api").mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(json.dumps(self.page(), indent=1) + "\n")
        (folder / "api" / f"{self.name}.json").write_text(json.dumps(self.api(), indent=1) + "\n")


def identifier(name: str) -> str:
    """The same UUID each time, so that writing anew changes nothing."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK}/{name}"))


def options(spec: list) -> dict:
    return spec[1] if len(spec) > 1 else {}


def is_widget(spec: list) -> bool:
    return (isinstance(spec[0], list) or spec[0] in WIDGET_TYPES) and not options(spec).get("forceInput")


def after_generate(spec: list) -> bool:
    return bool(options(spec).get("control_after_generate"))


def uploads(spec: list) -> bool:
    return any(options(spec).get(name) for name in UPLOADS)


def default(spec: list):
    choices = spec[0] if isinstance(spec[0], list) else options(spec).get("options", [])
    first = choices[0] if choices else None
    return options(spec).get("default", first["key"] if isinstance(first, dict) else first)
