"""Write every list: nav, home page, README, index of symptoms, scenarios, the course.

`python -m cookbook.generated` writes what `files` gives; a test compares them. A list
stands between two marks, and what is outside of them stays as it is. The pages of the
course are generated whole. What a recipe's page says of its pitfalls is a file of its
own, which the page includes.
"""

import html
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from markdown.extensions.toc import slugify, unique

from cookbook import catalog, course
from cookbook.catalog import ROOT, THEMES
from cookbook.llm.scenario import in_markdown, load

# A wrong version is a program of its own, or a part of a client's.
INCLUDED = re.compile(
    r'--8<-- "(?:recipes/pitfalls|docs/clients)/(\w+)(?:/wrong)?/(\w+)\.(?:py|ts)[":]'
)
GROUPS = "recipes/pitfalls/groups.toml"  # of what one sees


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
    if (root / "docs/pitfalls/myths.md").is_file():
        lines.append("      - Twenty myths: pitfalls/myths.md")
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
        parts.append("\n".join(["", f"### {THEMES[theme]}", "", *head, *rows, ""]))
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


@dataclass(frozen=True)
class Symptom:
    """A heading of a page of pitfalls, and the pitfall that stands under it."""

    heading: str
    anchor: str
    theme: str
    pitfall: str | None  # its name, if a wrong version is shown
    text: str = field(repr=False)  # of the whole section

    def link(self, folder: str) -> str:
        """Link to it, from a page to which its page is in `folder`."""
        return f"[{self.heading}]({folder}{self.theme}.md#{self.anchor})"


def symptoms(root: Path, theme: str) -> list[Symptom]:
    """List the sections of a page of pitfalls."""
    text = (root / "docs/pitfalls" / f"{theme}.md").read_text("utf-8")
    known: set[str] = set()
    found = []
    _, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    for section in sections:
        heading = section.splitlines()[0].removeprefix("## ")
        plain = html.unescape(heading.replace("`", ""))
        anchor = unique(slugify(plain, "-"), known)
        shown = INCLUDED.search(section)
        name = f"{shown[1]}/{shown[2]}" if shown else None
        found.append(Symptom(heading, anchor, theme, name, section))
    return found


def all_symptoms(root: Path) -> list[Symptom]:
    """List the sections of all pages of pitfalls."""
    return [one for theme in pitfall_pages(root) for one in symptoms(root, theme)]


def groups(root: Path) -> dict[str, list[str]]:
    """Say which pitfalls show themselves alike: names by what one sees."""
    found = tomllib.loads((root / GROUPS).read_text("utf-8"))["group"]
    return {group["title"]: group["pitfalls"] for group in found}


def symptom_index(root: Path) -> str:
    """Write the list of all symptoms, by what one sees, and how many they are."""
    found = all_symptoms(root)
    sorted_ones: set[str] = set()
    parts = [f"There are {len(found)} of them.\n"]
    for title, names in groups(root).items():
        own = [one for one in found if one.pitfall in names]
        sorted_ones |= set(names)
        parts.append(listed(f"{title} ({len(own)})", own))
    if rest := [one for one in found if one.pitfall not in sorted_ones]:
        parts.append(listed("Not sorted yet", rest))
    return "\n" + "".join(parts) + "\n"


def listed(title: str, found: list[Symptom]) -> str:
    """Write one part of the list."""
    rows = [f"- {one.link('')}" for one in found]
    return "\n".join(["", f"## {title}", "", *rows, ""])


def own_pitfalls(root: Path, slug: str) -> str:
    """Write the line with which a recipe's page links to its own pitfalls."""
    own = [
        one.link("../pitfalls/")
        for one in all_symptoms(root)
        if one.pitfall and one.pitfall.split("/")[0] == slug
    ]
    return f"Each wrong version is a program that you can run: {' · '.join(own)}\n"


def files(root: Path = ROOT) -> dict[Path, str]:
    """Give each file that is generated, or holds such a part, with its whole text.

    Raises ValueError if a mark is missing or a page's front matter is wrong.
    """
    parts = [
        ("mkdocs.yml", "recipes and pitfalls", nav(root), YAML),
        ("mkdocs.yml", "course", course.nav(root), YAML),
        ("docs/notebooks.md", "chapters", course.overview(root), MARKDOWN),
        ("docs/index.md", "recipes", chooser(root), MARKDOWN),
        ("README.md", "recipes", table(root), MARKDOWN),
        ("docs/pitfalls/index.md", "symptoms", symptom_index(root), MARKDOWN),
        ("docs/learn/provider.md", "scenarios", in_markdown(load()), MARKDOWN),
    ]
    found = course.files(root)
    for source in catalog.sources(root):
        own = root / f"docs/pitfalls/of/{source.stem}.md"
        found[own] = own_pitfalls(root, source.stem)
    for name, mark, content, comment in parts:
        # A file may hold several parts.
        text = found.get(root / name) or (root / name).read_text("utf-8")
        try:
            found[root / name] = between(mark, text, content, comment)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def main() -> None:
    """Write every file anew."""
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
