"""The results as people read them: a Markdown table, plots, and a page of images to leaf through."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ..metrics import paired_bootstrap
from .compare import Difference, paired
from .pairs import Pair, read_image, spread
from .paper import COLUMNS, PAPER
from .pixels import composite
from .protocols import LABELS, METRICS
from .visualize import error_map, image_grid, masked, outline_point, zoom

PAGE = Path(__file__).with_name("page.html")
EXAMPLES = 4  # photos on the sheet


def write_report(
    out: Path, results: dict, images: list[dict], shown: Sequence[Pair], found: dict[str, dict[str, Difference]]
) -> None:
    """Writes results.md, plots/, index.html and examples.jpg. `found`: how `ours` differs from the other methods."""
    markdown = table(results) + (f"\n{difference_table(results['recipe']['ours'], found)}" if found else "")
    (out / "results.md").write_text(markdown, encoding="utf-8")
    plots = write_plots(out / "plots", results, images)
    sections = [section(out, pair, list(results["methods"])) for pair in shown]
    page = PAGE.read_text(encoding="utf-8")
    for name, text in {
        "table": html_table(markdown),
        "plots": "".join(f'<img src="plots/{escape(plot)}">' for plot in plots),
        "sections": "".join(sections),
    }.items():
        page = page.replace(f"<!-- {name} -->", text)
    (out / "index.html").write_text(page, encoding="utf-8")
    write_examples(out, list(results["methods"]), spread(shown, EXAMPLES))


def label(metric: str) -> str:
    return LABELS.get(metric, metric.replace("_", " "))


def table(results: dict) -> str:
    """The results as Markdown, the paper's numbers in brackets."""
    found = {}
    for name, method in results["methods"].items():
        found[name] = ({"fid": float(np.mean(each))} if (each := fids(method)) else {}) | method["means"]
    better = {"fid": False, **{metric: more for metric, (_, more) in METRICS.items()}}
    columns = [metric for metric in better if any(metric in values for values in found.values())]
    head = " | ".join(f"{label(metric)} ({'more' if better[metric] else 'less'} is better)" for metric in columns)
    lines = [how(results), f"| | {head} |", "|---|" + "---|" * len(columns)]
    for name, values in found.items():
        paper = dict(zip(COLUMNS, PAPER.get(name, ()), strict=False))
        cells = [cell(values.get(metric), paper.get(metric)) for metric in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if any(name in PAPER for name in found):
        other = "" if results["recipe"]["pairs"]["misato"] else "; other photos and another model than here"
        lines += ["", f"In brackets the paper's numbers: MISATO at 512 pixels, SD-1.5{other}."]
    return "\n".join(lines + ["", *remarks(results)]).rstrip() + "\n"


def difference_table(ours: str, found: dict[str, dict[str, Difference]]) -> str:
    """The paired differences of `ours` from every other method as Markdown, with their 95 % intervals."""
    columns = [metric for metric in ("fid", *METRICS) if any(metric in values for values in found.values())]
    lines = [f"| {ours} - | {' | '.join(map(label, columns))} |", "|---|" + "---|" * len(columns)]
    for other, values in found.items():
        cells = ["{:+.3g} ({:+.3g} to {:+.3g})".format(*values[m]) if m in values else "-" for m in columns]
        lines.append(f"| {other} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def fids(method: dict) -> list[float]:
    """Of a method's seeds, those that there are."""
    return [s["fid"] for s in method["sets"] if s["fid"] is not None]


def remarks(results: dict) -> list[str]:
    """Why there is no FID, or no U-IDS and P-IDS, or what they are worth."""
    sets = [s for method in results["methods"].values() for s in method["sets"]]
    kinds = {"fid_reason": "No FID", "reason": "No U-IDS and P-IDS", "warning": "U-IDS and P-IDS"}
    return [f"{about}: {text}." for kind, about in kinds.items() for text in sorted({s[kind] for s in sets if s[kind]})]


def how(results: dict) -> str:
    """By which protocol, on what, in how many steps, and with which features."""
    recipe, sets = results["recipe"], [s for method in results["methods"].values() for s in method["sets"]]
    domains = ", ".join(f"{count} {domain}" for domain, count in results["domains"].items())
    sampling = [method["diffusion"] or method["pytorch"] for method in recipe["methods"]]
    steps = sorted({settings["steps"] for settings in sampling if settings})
    sampled = f"{' or '.join(map(str, steps))} steps, " if steps else ""
    seen = (
        f"features {results['features']}, of which the IDS saw {sets[0]['components']} dimensions"
        if sets
        else "no features"
    )
    return (
        f"Protocol {results['protocol']}: {results['pairs']} pairs at {recipe['pairs']['size']} px ({domains}), "
        f"{recipe['seeds']} seeds, {sampled}{seen}; composites; measured at commit {short(results['commit'])}.\n"
    )


def short(commit: str) -> str:
    return commit[:10] + commit[40:]


def cell(value: float | None, paper: float | None) -> str:
    ours = "-" if value is None else f"{value:.3f}"
    return ours if paper is None else f"{ours} ({paper:.3f})"


def html_table(markdown: str) -> str:
    """The lines and tables of results.md, as one."""
    rows = []
    for line in markdown.splitlines():
        if line.startswith("|---"):
            continue
        if line.startswith("|"):
            rows.append(
                "<tr>" + "".join(f"<td>{escape(text.strip())}</td>" for text in line.strip("|").split("|")) + "</tr>"
            )
        elif line:
            rows.append(f'<tr><td colspan="99">{escape(line)}</td></tr>')
    return f"<table>{''.join(rows)}</table>"


def write_plots(folder: Path, results: dict, images: list[dict]) -> list[str]:
    """One plot a metric: every method's mean over images with its 95 % interval, and the FID of every seed. Returns the
    file names."""
    folder.mkdir(exist_ok=True)
    names = []
    if seeds := [(fid, name) for name, method in results["methods"].items() for fid in fids(method)]:
        names.append(plot(folder, "fid", *zip(*seeds, strict=True)))
    for metric in METRICS:
        methods = [name for name in images[0]["methods"] if len(paired(images, metric, name)[0])]
        if not methods:
            continue
        intervals = np.array(
            [paired_bootstrap(v, np.zeros_like(v)) for m in methods for v in paired(images, metric, m)]
        )
        mean, low, high = intervals.T
        names.append(plot(folder, metric, mean, methods, [mean - low, high - mean]))
    return names


def plot(folder: Path, metric: str, values: Sequence[float], methods: Sequence[str], errors=None) -> str:
    """Values (N,) in the rows of their methods (N,), with errors (2, N) to both sides. Returns the file's name."""
    unit, more = METRICS.get(metric, ("", False))
    rows = len(set(methods))
    figure = Figure(figsize=(6, 0.8 + 0.35 * rows), layout="constrained")
    axes = figure.add_subplot()
    axes.errorbar(values, methods, xerr=errors, fmt="o", capsize=3)
    axes.set_xlabel(f"{label(metric)}{f', {unit}' if unit else ''} ({'more' if more else 'less'} is better)")
    axes.margins(y=0.5 / rows)
    axes.invert_yaxis()
    figure.savefig(folder / f"{metric}.svg")
    return f"{metric}.svg"


def write_examples(out: Path, methods: Sequence[str], shown: Sequence[Pair]) -> None:
    """A grid with a row for each photo: its hole, every method's composite, the original."""
    rows = [
        [masked(pair.image, pair.mask), *(shown_composite(out, name, pair) for name in methods), pair.image]
        for pair in shown
    ]
    image_grid(["input", *methods, "original"], rows).save(out / "examples.jpg", quality=90)


def shown_composite(out: Path, method: str, pair: Pair) -> np.ndarray:
    return composite(read_image(out / "pictures" / method / f"{pair.name}-0.png"), pair.image, pair.mask)


def section(out: Path, pair: Pair, methods: list[str]) -> str:
    """One photo's section of the page: input, original, and of every method the image, its error and a close-up."""
    folder = out / "shown" / pair.name
    folder.mkdir(parents=True, exist_ok=True)
    point = outline_point(pair.mask)
    rows: list[str] = []

    def show(title: str, **images: np.ndarray) -> None:
        cells = ""
        for kind, image in images.items():
            file = folder / f"{len(rows)}-{kind}.webp"
            Image.fromarray(image).save(file, quality=90)
            cells += f'<figure><img loading="lazy" src="{quote(file.relative_to(out).as_posix())}"><figcaption>{kind}</figcaption></figure>'
        rows.append(f"<h3>{escape(title)}</h3><div>{cells}</div>")

    hole = masked(pair.image, pair.mask)
    show("Photo", input=hole, original=pair.image, edge=zoom(pair.image, point))
    for name in methods:
        result = read_image(out / "pictures" / name / f"{pair.name}-0.png")
        pasted = composite(result, pair.image, pair.mask)
        show(name, result=pasted, error=error_map(result, pair.image), edge=zoom(pasted, point))
    return f'<section id="{pair.number}"><h2>{escape(pair.name)}, {escape(pair.domain)}</h2>{"".join(rows)}</section>'
