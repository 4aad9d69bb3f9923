"""A graph behind one box: what ComfyUI calls a subgraph blueprint."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.workflows.graph import COLUMN, PACK, PACK_VERSION, WIDTH, Graph, Node, after_generate, identifier

INPUTS, OUTPUTS = -10, -20  # ids of the nodes that stand for the box's edges
CATEGORY = "Image generation and editing/Inpaint image"  # as ComfyUI's own


class Blueprint(Graph):
    """A graph whose `expose`d inputs and one `result` become the slots and widgets of a single node."""

    def __init__(self, name: str, object_info: dict, description: str, aliases: list[str]):
        super().__init__(name, object_info)
        self.description, self.aliases = description, aliases
        self.exposed: list[tuple[str, Node, str]] = []
        self.result: tuple[Node, int] | None = None

    def expose(self, node: Node, name: str, label: str | None = None) -> None:
        self.exposed.append((label or name, node, name))

    def links(self) -> list[list]:
        links = super().links()
        for i, (_, node, name) in enumerate(self.exposed):
            kind = self.page_slot(node.kind, name)["type"]
            links.append([len(links) + 1, INPUTS, i, node.id, self.slots(node.kind).index(name), kind])
        node, output = self.result
        return [*links, [len(links) + 1, node.id, output, OUTPUTS, 0, self.info[node.kind]["output"][output]]]

    def page(self) -> dict:
        links = self.links()
        last_node = max(node.id for node in self.nodes)
        right = (1 + max(node.column for node in self.nodes)) * COLUMN
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        subgraph = {
            "id": identifier(f"{self.name}/subgraph"),
            "version": 1,
            "state": {"lastGroupId": 0, "lastNodeId": last_node, "lastLinkId": len(links), "lastRerouteId": 0},
            "revision": 0,
            "config": {},
            "name": self.name,
            "inputNode": {"id": INPUTS, "bounding": [-200, 0, 120, 40 + 20 * len(self.exposed)]},
            "outputNode": {"id": OUTPUTS, "bounding": [right, 0, 120, 60]},
            "inputs": [
                self.edge(f"input {label}", label, links, INPUTS, i) for i, (label, _, _) in enumerate(self.exposed)
            ],
            "outputs": [self.edge("output image", "image", links, OUTPUTS, 0)],
            "widgets": [],
            "nodes": self.page_nodes(links),
            "groups": [],
            "links": [dict(zip(keys, link, strict=True)) for link in links],
            "extra": {},
            "category": CATEGORY,
            "description": self.description,
        }
        return {
            "id": identifier(self.name),
            "revision": 0,
            "last_node_id": last_node + 1,
            "last_link_id": 0,
            "nodes": [self.box(subgraph)],
            "links": [],
            "groups": [],
            "definitions": {"subgraphs": [subgraph]},
            "config": {},
            "extra": {"BlueprintDescription": self.description, "BlueprintSearchAliases": self.aliases},
            "version": 0.4,
        }

    def edge(self, key: str, label: str, links: list[list], side: int, slot: int) -> dict:
        """A slot at the box's inner edge."""
        end = 1 if side == INPUTS else 3
        found = [link for link in links if link[end : end + 2] == [side, slot]]
        return {
            "id": identifier(f"{self.name}/{key}"),
            "name": label,
            "type": found[0][5],
            "linkIds": [link[0] for link in found],
            "pos": [-100 if side == INPUTS else 0, 20 + 20 * slot],
        }

    def box(self, subgraph: dict) -> dict:
        slots = []
        for label, node, name in self.exposed:
            slot = self.page_slot(node.kind, name)
            slots.append(
                slot | {"name": label, "link": None} | ({"widget": {"name": label}} if "widget" in slot else {})
            )
        widgets = []
        for _, node, name in self.exposed:
            if "widget" in self.page_slot(node.kind, name):
                widgets.append([str(node.id), name])
                widgets += [[str(node.id), "control_after_generate"]] * after_generate(self.schema(node.kind)[name])
        return {
            "id": max(node.id for node in self.nodes) + 1,
            "type": subgraph["id"],
            "pos": [0, 0],
            "size": [WIDTH + 40, 60 + 24 * len(widgets)],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": slots,
            "outputs": [{"name": "image", "type": "IMAGE", "links": []}],
            "title": self.name,
            "properties": {"proxyWidgets": widgets, "cnr_id": PACK, "ver": PACK_VERSION},
            "widgets_values": [],
        }

    def write(self, folder: Path) -> None:
        """Writes <folder>/<name>.json; the name is what the page calls it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(json.dumps(self.page(), indent=1) + "\n")
