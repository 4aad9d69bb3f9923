"""nodes -> asuka_modules <- training, and nothing else."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMFYUI = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "node_helpers", "server"}
TRAINING_EXTRAS = {
    "accelerate",
    "diffusers",
    "cv2",
    "transformers",
    "timm",
    "lpips",
    "yaml",
    "tqdm",
    "skimage",
    "sklearn",
}
FORBIDDEN = {  # a leading dot marks a relative import
    "asuka_modules": COMFYUI
    | TRAINING_EXTRAS
    | {"nodes", "training", "asuka_modules", "einops", ".nodes", ".training"},
    "training": COMFYUI | {"nodes", ".nodes", ".asuka_modules"},
    "nodes": TRAINING_EXTRAS | {"training", ".training", "asuka_modules", "nodes"},
}


def imported_names(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            package = file.relative_to(ROOT).parts[: -node.level]
            targets = [node.module] if node.module else [alias.name for alias in node.names]
            names |= {"." + [*package, *target.split(".")][0] for target in targets}
    return names


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_layer_imports_only_what_it_may(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for file in files:
        assert not imported_names(file) & FORBIDDEN[folder], file


def test_recipes_pull_in_no_converter_export_or_card():
    commands = {"convert.py", "export.py", "ablations.py", "miniature.py"}
    recipes = [file for file in (ROOT / "training").glob("*.py") if file.name not in commands]
    readers = [ROOT / "training" / "weights" / f"{name}.py" for name in ("frozen", "ldm_names", "mae", "pickles")]
    for file in [*recipes, *(ROOT / "training" / "engine").glob("*.py"), *readers]:
        modules = {node.module for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)}
        last = {str(module).split(".")[-1] for module in modules}
        assert not last & {"convert", "export", "card"}, file
