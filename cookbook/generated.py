"""Write every list: nav, home page, README, index of symptoms, scenarios.

`python -m cookbook.generated` writes what `files` gives; a test compares them. A list
stands between two marks, and what is outside of them stays as it is.
"""

import html
import re
from pathlib import Path

from markdown.extensions.toc import slugify, unique

from cookbook import catalog
from cookbook.catalog import ROOT, THEMES
from cookbook.llm.scenario import in_markdown, load

SYMPTOM = re.compile(r"^## (.+)$", re.MULTILINE)
INCLUDED = re.compile(r'--8<-- "recipes/pitfalls/(\w+)/\w+\.py')


def between(name: str, text: str, content: str, comment: tuple[str, str]) -> str:
    """Put `content` between the marks of a generated part.

    Raises ValueError if the text has no such marks.
    """
    opening, closing = comment
    start = f"{opening}{name}{closing}\n"
    end = f"{opening}end of {name}{closing}"
    part = re.compile(f"(?<={re.escape(start)}).*?(?=[ ]*{re.escape(end)})", re.DOTALL)
    if not part.search(text):
        raise ValueError(f"the marks {start.strip()!r} and {end!r} are missing")
    return part.sub(lambda _: content, text)


YAML = ("# ", "")
MARKDOWN = ("<!-- ", " -->")


def nav(root: Path) -> str:
    """Write the menu's part for recipes and pitfalls, in YAML."""
    lines = []
    for theme, pairs in catalog.by_theme(root):
        lines.append(f"  - {THEMES[theme]}:")
        lines += [f"      - {page.title}: recipes/{r.slug}.md" for r, page in pairs]
    lines += ["  - Pitfalls:", "      - What do you see?: pitfalls/index.md"]
    for theme in pitfall_pages(root):
        lines.append(f"      - {THEMES[theme]}: pitfalls/{theme}.md")
    return "\n".join([*lines, ""])


def chooser(root: Path) -> str:
    """Write the home page's tables: what you want, what to take, and why."""
    parts = []
    for theme, pairs in catalog.by_theme(root):
        head = ["| you want to | take | because |", "|---|---|---|"]
        rows = [
            f"| {page.want} | [{page.title}](recipes/{r.slug}.md) | {page.because} |"
            for r, page in pairs
        ]
        parts.append("\n".join(["", f"## {THEMES[theme]}", "", *head, *rows, ""]))
    return "".join(parts) + "\n"


def table(root: Path) -> str:
    """Write the README's tables of recipes: slug, summary, and a request to try."""
    parts = []
    for theme, pairs in catalog.by_theme(root):
        head = [f"| {THEMES[theme]} | what it does | try it |", "|---|---|---|"]
        rows = [
            f"| [`{r.slug}`](recipes/{r.slug}.py) | {r.summary} | `{r.tries[0]}` |"
            for r, _ in pairs
        ]
        parts.append("\n".join(["", *head, *rows, ""]))
    return "".join(parts) + "\n"


def pitfall_pages(root: Path) -> list[str]:
    """List the themes that have a page of pitfalls, in their order."""
    return [t for t in THEMES if (root / "docs/pitfalls" / f"{t}.md").is_file()]


def symptoms(root: Path, theme: str) -> list[tuple[str, str]]:
    """List the headings of a page of pitfalls, each with its anchor."""
    text = (root / "docs/pitfalls" / f"{theme}.md").read_text("utf-8")
    known: set[str] = set()
    found = []
    for heading in SYMPTOM.findall(text):
        plain = html.unescape(heading.replace("`", ""))
        found.append((heading, unique(slugify(plain, "-"), known)))
    return found


def symptom_index(root: Path) -> str:
    """Write the list of all symptoms, by theme."""
    parts = []
    for theme in pitfall_pages(root):
        rows = [
            f"- [{heading}]({theme}.md#{anchor})"
            for heading, anchor in symptoms(root, theme)
        ]
        parts.append("\n".join(["", f"## {THEMES[theme]}", "", *rows, ""]))
    return "".join(parts) + "\n"


def files(root: Path = ROOT) -> dict[Path, str]:
    """Give each file that holds a generated part, with the text that it should have.

    Raises ValueError if a mark is missing or a page's front matter is wrong.
    """
    parts = [
        ("mkdocs.yml", "recipes and pitfalls", nav(root), YAML),
        ("docs/index.md", "recipes", chooser(root), MARKDOWN),
        ("README.md", "recipes", table(root), MARKDOWN),
        ("docs/pitfalls/index.md", "symptoms", symptom_index(root), MARKDOWN),
        ("docs/learn/provider.md", "scenarios", in_markdown(load()), MARKDOWN),
    ]
    found = {}
    for name, mark, content, comment in parts:
        text = (root / name).read_text("utf-8")
        try:
            found[root / name] = between(mark, text, content, comment)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def main() -> None:
    """Write every file anew."""
    for path, text in files().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
