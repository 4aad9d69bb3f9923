"""Count what the style rules are about, per package: python scripts/figures.py [FOLDER ...]"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIALECT = re.compile(r"\b(?:cells|pictures?|colours?|twins?|grey|recognise|initialise|exhibits?)\b", re.IGNORECASE)
SHAPE = re.compile(r"\([A-Z0-9][^)]*,[^)]*\)")


def count(folder: Path) -> tuple[int, int, int, int, int]:
    """Public functions, those without docstring, tensor functions, those without shapes, and words of the old dialect."""
    public = bare = tensor = shapeless = words = 0
    for file in sorted(folder.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        words += len(DIALECT.findall(source))
        for item in ast.walk(ast.parse(source)):
            if not isinstance(item, ast.FunctionDef) or item.name.startswith("_"):
                continue
            text = ast.get_docstring(item) or ""
            public, bare = public + 1, bare + (not text)
            if "Tensor" in ast.unparse(item.args) + ast.unparse(item.returns or ast.Constant(None)):
                tensor, shapeless = tensor + 1, shapeless + (not SHAPE.search(text))
    return public, bare, tensor, shapeless, words


if __name__ == "__main__":
    for name in sys.argv[1:] or ("asuka_modules", "nodes", "training"):
        public, bare, tensor, shapeless, words = count(ROOT / name)
        sys.stdout.write(
            f"{name}: {bare} of {public} public functions without docstring, "
            f"{shapeless} of {tensor} tensor functions without shapes, {words} words of the old dialect\n"
        )
