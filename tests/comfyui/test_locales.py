"""The nodes speak English, Chinese and Japanese: every label, every tooltip, every help page."""

import io
import json
import re
from pathlib import Path

import comfyui_frontend_package
import pytest
from PIL import Image

from scripts.comfy_server import FOLDER, ROOT, Server
from scripts.node_texts import FILE, node_texts

TRANSLATIONS = ("zh", "ja")


@pytest.fixture(scope="module")
def object_info(server: Server) -> dict:
    return {node: info for node, info in server.get("/object_info").items() if node.startswith("ASUKA_")}


def read(language: str, name: str) -> dict:
    return json.loads((ROOT / "locales" / language / name).read_text(encoding="utf-8"))


def structure(texts: dict) -> dict:
    """The texts without what they say."""
    return {key: structure(value) if isinstance(value, dict) else None for key, value in texts.items()}


def leaves(texts: dict) -> list[str]:
    return [leaf for value in texts.values() for leaf in (leaves(value) if isinstance(value, dict) else [value])]


def test_english_is_what_the_nodes_say(object_info):
    """Else run scripts/locales.sh, and translate what has changed."""
    assert json.loads(FILE.read_text()) == node_texts(object_info)


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_everything_is_translated(object_info, language):
    texts = read(language, "nodeDefs.json")
    assert structure(texts) == structure(node_texts(object_info))
    for text in leaves(texts):
        assert text.strip()
        assert not re.search(r"[{}@|]", text), f"the page reads {text!r} as a format"
    for node in texts.values():
        for text in (node["description"], *(slot["tooltip"] for slot in node["inputs"].values())):
            assert re.search("[\u3040-\u30ff\u4e00-\u9fff]", text), text
        for slots in (node["inputs"], node["outputs"]):
            names = [slot["name"] for slot in slots.values()]
            assert len(names) == len(set(names))


@pytest.mark.parametrize(("language", "quotes"), [("zh", "\u201c\u201d"), ("ja", "\u300c\u300d")])
def test_nodes_and_inputs_are_called_by_their_translated_names(language, quotes):
    """What stands in quotes is a name that the user sees, ComfyUI's own nodes included, or a prompt in English."""
    texts = read(language, "nodeDefs.json")
    known = {node["display_name"] for node in texts.values()} | names_on_the_page()
    known |= {slot["name"] for node in texts.values() for slot in node["inputs"].values()}
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "web" / "docs").glob(f"*/{language}.md")]
    quoted = {name for text in leaves(texts) + pages for name in re.findall("{}(.+?){}".format(*quotes), text)}
    assert len(quoted) > 10
    assert {name for name in quoted if not name.isascii()} <= known


def names_on_the_page() -> set[str]:
    """What ComfyUI's page calls ComfyUI's nodes, in all languages."""
    assets = Path(comfyui_frontend_package.__file__).parent / "static" / "assets"
    return {
        name for path in assets.glob("nodeDefs-*.js") for name in re.findall("display_name:`(.+?)`", path.read_text())
    }


@pytest.mark.parametrize("language", ["en", *TRANSLATIONS])
def test_categories_are_named(object_info, language):
    parts = {part for info in object_info.values() for part in info["category"].split("/")}
    assert read(language, "main.json")["nodeCategories"].keys() == parts


def test_comfyui_serves_the_translations(server: Server):
    served = server.get("/i18n")
    for language in ("en", *TRANSLATIONS):
        assert served[language]["nodeDefs"] == read(language, "nodeDefs.json")
        assert served[language]["nodeCategories"] == read(language, "main.json")["nodeCategories"]


@pytest.mark.parametrize("language", ["en", *TRANSLATIONS])
def test_every_node_has_a_help_page(server: Server, object_info, language):
    """Where ComfyUI's page looks for it, under the node's name, about each input by the name on the node, with a picture."""
    texts = read(language, "nodeDefs.json")
    for node in object_info:
        name = node if language == "en" else f"{node}/{language}"
        page = server.open(f"/extensions/{FOLDER}/docs/{name}.md").decode()
        assert page.startswith(f"# {texts[node]['display_name']}\n")
        for slot in texts[node]["inputs"].values():
            assert f"**{slot['name']}**" in page, (name, slot["name"])
        picture = re.search(r"!\[.+\]\((.+)\)", page)[1]
        Image.open(io.BytesIO(server.open(f"/extensions/{FOLDER}/docs/{picture}"))).verify()


def test_there_is_no_help_page_without_a_node(object_info):
    pages = {path.relative_to(ROOT / "web" / "docs").parts[0] for path in (ROOT / "web" / "docs").rglob("*.md")}
    assert {name.removesuffix(".md") for name in pages} == object_info.keys()
