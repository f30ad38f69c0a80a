"""The command-line reference: a page for each verb, from the parser that reads its arguments."""

from __future__ import annotations

import argparse
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo

from protomask.cli.arguments import verb_parser
from protomask.cli.main import VERBS

FOLDER = "reference/cli"
INTRODUCTION = """# Command line

`protomask VERB --help` prints what these pages say. Options may be written with hyphens or underscores, and lists
without brackets: `--classes person,car`.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed work; the message is on standard error, and `--debug` adds the traceback |
| 2 | bad usage: an option, a name or a value that cannot be right |

| verb | what it does |
|---|---|
"""


def page_name(verb: str) -> str:
    """Address of a verb's page in the documentation."""
    return f"{FOLDER}/{verb.replace(' ', '-')}.md"


def write_pages(docs: Path) -> list[str]:
    """Write the overview and a page for each verb; returns their addresses, the overview first."""
    (docs / FOLDER).mkdir(parents=True, exist_ok=True)
    rows = [f"| [`{verb}`]({Path(page_name(verb)).name}) | {summary} |\n" for verb, (_, summary) in VERBS.items()]
    overview = f"{FOLDER}/index.md"
    (docs / overview).write_text(INTRODUCTION + "".join(rows), encoding="utf-8")
    for verb in VERBS:
        (docs / page_name(verb)).write_text(verb_page(verb), encoding="utf-8")
    return [overview, *map(page_name, VERBS)]


def verb_page(verb: str) -> str:
    """What a verb does, an example, and every option under the heading it has in the help."""
    name, summary = VERBS[verb]
    module = import_module(f"protomask.cli.{name}")
    parser, _ = verb_parser(verb, module, summary)
    parts = [f"# protomask {verb}", parser.description or "", f"```bash\n{module.EXAMPLE}\n```"]
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        options = [action for action in group._group_actions if action.dest != "help"]
        if options:
            parts.append(f"## {_title(group.title or 'Options')}")
            parts += [_option(action, formatter) for action in options]
    return "\n\n".join(parts) + "\n"


def _title(title: str) -> str:
    return "Arguments" if title == "positional arguments" else title[:1].upper() + title[1:]


def _option(action: argparse.Action, formatter: Any) -> str:
    first, *others = action.option_strings or [action.dest]
    text = formatter._get_help_string(action).replace("%%", "%")
    text, _, default = text.partition(" (default: ")
    facts = [f"`{action.metavar}`"] if isinstance(action.metavar, str) and not isinstance(action, ActionYesNo) else []
    facts += [f"also `{other}`" for other in others]
    facts += ["required"] if text.endswith(" (required)") else []
    facts += [f"default `{default.removesuffix(')')}`"] if default else []
    heading = f"### `{first}` {{ #{first.lstrip('-').replace('.', '-')} }}"
    shown = [f"{', '.join(facts)}\n{{ .facts }}"] if facts else []
    return "\n\n".join([heading, *shown, _escaped(text.removesuffix(" (required)"))])


def _escaped(text: str) -> str:
    """Help is plain text: what Markdown would read as markup stands as it is, option names and mappings as code."""
    parts = re.split(r"('?\{[^{}]*\}'?)", text)
    mappings = {f"\0{number}": part for number, part in enumerate(parts) if number % 2 and " " in part}
    joined = "".join(f"\0{number}" if f"\0{number}" in mappings else part for number, part in enumerate(parts))
    shown = " ".join(_word(word) for word in joined.replace("<", "&lt;").split())
    for key, mapping in mappings.items():
        shown = shown.replace(key, f"`{mapping}`")
    return shown


def _word(word: str) -> str:
    bare = word.rstrip(".,;:)")
    if not (bare.startswith("--") or "{" in bare or "*" in bare or "_" in bare.strip("`(")):
        return word
    opening = "(" if bare.startswith("(") else ""
    bare = bare.removeprefix("(")
    code = bare if "`" in bare else f"`{bare}`"
    return opening + code + word[len(opening) + len(bare) :]
