"""Turns a typed, documented function into a command: its parameters are the options, its docstring the help."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import json
import re
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeGuard, Union, get_args, get_origin, get_type_hints

from docstring_parser import Docstring, parse
from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter
from jsonargparse.typing import register_type

from protomask.cli.codes import BAD_USAGE, FAILED
from protomask.cli.streams import EndedBySignalError, ended_by_signals, silence_output
from protomask.errors import ConfigError, ProtomaskError
from protomask.extras import needing_torch
from protomask.settings import Settings

_TYPE_NAMES = {int: "INT", float: "FLOAT", str: "TEXT"}
# How the parser reports a value of the wrong type.
_WRONG_VALUE = re.compile(
    r'Parser key "(?P<key>[\w.]+)"(?: element \d+)?:.*(?:Given value|Got value): (?P<value>[^\n]*)', re.DOTALL
)
_MISSING = re.compile(r"arguments are required: (?P<names>.+)")
_UNKNOWN = re.compile(r"unrecognized arguments: (?P<arguments>.+)", re.DOTALL)


def verb_parser(verb: str, module: ModuleType, summary: str) -> tuple[_Parser, dict[str, type[Settings]]]:
    """The parser of a verb, and those of its parameters that are settings.

    The module has a function ``run`` that returns an exit code, gives an ``EXAMPLE``, and may name its ``POSITIONAL``
    parameters, and the options that take ``SEVERAL`` values one after another; a parameter whose type is `Settings`
    becomes one option per field, and a --config file. ``RECIPES`` (name to file) are such files that ship with the
    package: --recipe NAME; ``DEFAULT_RECIPE`` gives that of a model (--model) where neither that nor --config is given.
    ``GROUPS`` are the sections of a long help: titles, and the names that stand there in order;
    a name that ends in a point stands for all that begin with it.
    """
    parser = _Parser(
        prog=f"protomask {verb}",
        description=parse(module.run.__doc__ or "").short_description or summary,
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    settings = _add_function(parser, module.run, getattr(module, "POSITIONAL", ()), getattr(module, "SEVERAL", ()))
    if recipes := getattr(module, "RECIPES", {}):
        text = "published settings to begin with; --config and all other options override it."
        parser.add_argument("--recipe", metavar="{" + ",".join(recipes) + "}", help=text)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error.")
    parser.group(getattr(module, "GROUPS", {}))
    return parser, settings


def run_verb(verb: str, module: ModuleType, summary: str, arguments: Sequence[str]) -> int:
    """Parse the arguments of a verb, as `verb_parser` knows them, and run it; returns the exit code."""
    run: Callable[..., int] = module.run
    parser, settings = verb_parser(verb, module, summary)
    recipes: Mapping[str, Path] = getattr(module, "RECIPES", {})
    try:
        default = getattr(module, "DEFAULT_RECIPE", lambda model: None)
        values = parser.parse_args(parser.with_recipe(parser.as_parsed(arguments), recipes, default)).as_dict()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else BAD_USAGE
    debug = values.pop("debug")
    values.pop("config", None)
    values.pop("recipe", None)
    try:
        for name, kind in settings.items():
            own = {field.name: values.pop(field.name) for field in dataclasses.fields(kind)}
            values[name] = kind.from_dict(own)
        with ended_by_signals(), warnings.catch_warnings(), needing_torch(f"protomask {verb}"):
            warnings.showwarning = _show_warning
            code = run(**values)
        _flush()
        return code
    except BrokenPipeError:
        silence_output()
        return FAILED
    except KeyboardInterrupt as error:
        by = f" by {error}" if isinstance(error, EndedBySignalError) else ""
        print(f"protomask {verb}: stopped{by}", file=sys.stderr)
        return FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        elif isinstance(error, ProtomaskError):
            print(f"protomask {verb}: {error}", file=sys.stderr)
        else:
            print(f"protomask {verb}: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return BAD_USAGE if isinstance(error, ConfigError) else FAILED


def _flush() -> None:
    """Write out what was printed.

    Raises:
        ProtomaskError: it cannot be written: the disk it goes to may be full.

    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_output()
        raise ProtomaskError(f"standard output cannot be written: {error.strerror}") from error


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """What the package itself warns of, in a line; all else as Python shows it."""
    if category.__module__.partition(".")[0] == "protomask":
        print(f"warning: {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, *where[:2]))


class _Parser(ArgumentParser):  # type: ignore[misc]  # the library is untyped here
    """Says in one line what is wrong with the arguments.

    Attributes:
        lists: type of the items of each option that takes a list.

    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.lists: dict[str, Any] = {}
        super().__init__(*arguments, **options)

    def flags(self) -> dict[str, list[str]]:
        """The option strings of each setting."""
        return {action.dest: list(action.option_strings) for action in self._actions if action.option_strings}

    def group(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Divide the help into sections; what none of them names comes last."""
        if not groups:
            return
        rest = self._optionals._group_actions
        for title, names in groups.items():
            section = self.add_argument_group(title)._group_actions
            for name in names:
                section += [action for action in rest if _is_named(action.dest, name)]
                rest[:] = [action for action in rest if not _is_named(action.dest, name)]
        self._optionals.title = "other"
        self._action_groups.append(self._action_groups.pop(self._action_groups.index(self._optionals)))
        required = " ".join(map(_shown_in_usage, (action for action in self._actions if action.required)))
        self.usage = f"{self.prog} {required} [options]"

    def as_parsed(self, arguments: Sequence[str]) -> list[str]:
        """Arguments as people write them in the form that is parsed."""
        return self._with_brackets(self._with_hyphens(arguments))

    def _with_brackets(self, arguments: Sequence[str]) -> list[str]:
        """Lists may be written without brackets: person,car."""
        written: list[str] = []
        flag = ""
        for argument in arguments:
            name, equals, value = argument.partition("=")
            if flag in self.lists and not argument.startswith("-"):
                written.append(_bracketed(argument, self.lists[flag]))
            elif name in self.lists and equals:
                written.append(f"{name}={_bracketed(value, self.lists[name])}")
            else:
                written.append(argument)
            flag = argument
        return written

    def _with_hyphens(self, arguments: Sequence[str]) -> list[str]:
        """Options may be written with underscores too, as they are in YAML."""
        known = {flag.replace("-", "_"): flag for flags in self.flags().values() for flag in flags}
        spelled = []
        for argument in arguments:
            name, equals, value = argument.partition("=")
            flag = known.get(name.replace("-", "_"), name) if name.startswith("--") else name
            spelled.append(f"{flag}{equals}{value}")
        return spelled

    def with_recipe(
        self, arguments: Sequence[str], recipes: Mapping[str, Path], default: Callable[[str | None], str | None]
    ) -> list[str]:
        """A recipe is the first of the --config files; ``default`` gives that of a model."""
        rest = list(arguments)
        for index, argument in enumerate(arguments):
            flag, equals, name = argument.partition("=")
            if flag != "--recipe":
                continue
            if not equals:
                name = arguments[index + 1] if index + 1 < len(arguments) else ""
            if name not in recipes:
                self.error(f"--recipe: expected one of {', '.join(recipes)}, got {name!r}")
            del rest[index : index + (1 if equals else 2)]
            return ["--config", str(recipes[name]), *rest]
        own = None if _value(rest, "--config") else default(_value(rest, "--model"))
        return rest if own is None else ["--config", str(recipes[own]), *rest]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message to standard error and leave with the code of bad usage."""
        print(f"{self.prog}: {self._in_plain_words(message)}", file=sys.stderr)
        print(f"{self.prog} --help lists the options", file=sys.stderr)
        raise SystemExit(BAD_USAGE)

    def _in_plain_words(self, message: str) -> str:
        flags = {dest: strings[0] for dest, strings in self.flags().items()}
        wrong, missing, unknown = (pattern.search(message) for pattern in (_WRONG_VALUE, _MISSING, _UNKNOWN))
        if wrong and (metavar := self._metavar(wrong["key"])):
            return f"{flags[wrong['key']]}: expected {metavar}, got {wrong['value']!r}"
        if missing:
            return "missing: " + ", ".join(flags.get(name, name) for name in missing["names"].split(", "))
        if unknown:
            known = {string: string for strings in self.flags().values() for string in strings}
            places = [action.dest for action in self._actions if not action.option_strings]
            known |= {f"--{place}": f"{self.prog} {place.upper()}" for place in places}
            for argument in unknown["arguments"].split():
                near = difflib.get_close_matches(argument.partition("=")[0], known, n=1)
                if argument.startswith("-"):
                    return f"no option {argument}" + (f", did you mean {known[near[0]]}?" if near else "")
            return f"unexpected {unknown['arguments']}"
        return message

    def _metavar(self, dest: str) -> str | None:
        found = [action.metavar for action in self._actions if action.dest == dest and action.option_strings]
        return found[0] if found and isinstance(found[0], str) else None


def _shown_in_usage(action: argparse.Action) -> str:
    if action.option_strings:
        return f"{action.option_strings[0]} {action.metavar}"
    return f"{action.dest} [{action.dest} ...]" if action.nargs == "+" else action.dest


def _is_named(dest: str, name: str) -> bool:
    return dest.startswith(name) if name.endswith(".") else dest == name


class _HelpFormatter(DefaultHelpFormatter):  # type: ignore[misc]  # likewise
    """Types as placeholders, each default once, and the example on a line of its own."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = (action.help or "").replace("%", "%%")
        if "--print_config" in action.option_strings:
            text = "print the settings as YAML, for --config, and exit."
        text = text[:1].upper() + text[1:]
        if action.required and action.option_strings:
            return f"{text} (required)"
        if isinstance(action, ActionYesNo):
            return f"{text} (default: {'yes' if action.default else 'no'})"
        if action.nargs == 0 or action.default in (None, argparse.SUPPRESS, {}, []):
            return text
        shown = ",".join(map(str, action.default)) if isinstance(action.default, tuple) else action.default
        if action.nargs == "+":
            shown = " ".join(map(str, action.default))
        return f"{text} (default: {shown})"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(textwrap.fill(line, width, break_long_words=False) for line in text.splitlines())


def _add_function(
    parser: _Parser, run: Callable[..., int], positional: Sequence[str], several: Sequence[str]
) -> dict[str, type[Settings]]:
    """Add every parameter of a function; returns those that are settings."""
    hints = get_type_hints(run)
    described = _descriptions(parse(run.__doc__ or ""))
    settings: dict[str, type[Settings]] = {}
    for name, parameter in inspect.signature(run).parameters.items():
        kind = hints[name]
        text = described.get(name, "")
        if _is_settings(kind) and not settings:
            parser.add_argument("--config", action="config", metavar="FILE", help="YAML file with these settings.")
        if _is_settings(kind):
            _add_fields(parser, kind)
            settings[name] = kind
        elif name in positional and get_origin(kind) is list:
            parser.add_argument(name, nargs="+", type=get_args(kind)[0], help=text)
        elif name in positional and parameter.default is None:  # as many as one likes, or none
            parser.add_argument(name, nargs="*", type=str, help=text)
        elif name in positional:
            parser.add_argument(name, type=kind, help=text)
        elif name in several:
            [item, *_], default = get_args(kind), list(parameter.default)
            flag = f"--{name.replace('_', '-')}"
            parser.add_argument(flag, nargs="+", type=item, default=default, metavar=_type_name(item), help=text)
        else:
            _add_option(parser, name, kind, parameter.default, text)
    return settings


def _is_settings(kind: Any) -> TypeGuard[type[Settings]]:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _add_fields(parser: _Parser, kind: type[Settings], prefix: str = "") -> None:
    hints = get_type_hints(kind)
    described = kind.help()
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if _is_settings(hint):
            _add_fields(parser, hint, f"{prefix}{field.name}.")
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if default is dataclasses.MISSING:
            default = inspect.Parameter.empty
        _add_option(parser, f"{prefix}{field.name}", hint, default, described[field.name])


def _add_option(parser: _Parser, name: str, kind: Any, default: Any, text: str) -> None:
    # A parameter that would be a word of Python has an underscore behind it, as PEP 8 says; its option has none.
    flag = f"--{name.rstrip('_').replace('_', '-')}"
    if (item := _item_type(kind)) is not None:
        parser.lists[flag] = item
    metavar, kind = _type_name(kind), _parsed_as(kind)
    if kind is bool:
        parser.add_argument(
            flag, action=ActionYesNo(yes_prefix="", no_prefix="no-"), default=default, help=text, dest=name
        )
    elif default is inspect.Parameter.empty:
        parser.add_argument(flag, type=kind, required=True, metavar=metavar, help=text, dest=name)
    else:
        parser.add_argument(flag, type=kind, default=default, metavar=metavar, help=text, dest=name)


class _More(str):
    """A number with a plus before it, such as +10: so much more."""

    def __new__(cls, text: str) -> _More:
        if re.fullmatch(r"\+[0-9.]+", text) is None:
            raise ValueError
        return super().__new__(cls, text)


def _more_as_text(value: Any) -> str:
    if isinstance(value, _More):
        return str(value)
    raise ValueError  # a number, which is another of the types


register_type(_More, _more_as_text, _More, deserializer_exceptions=(ValueError, TypeError))


def _parsed_as(kind: Any) -> Any:
    """The type as the parser needs it: for it, +10 would be the number 10."""
    return Union[_More, *(choice for choice in get_args(kind) if choice is not str)] if _has_more(kind) else kind


def _has_more(kind: Any) -> bool:
    """Whether a type is a number, or a text such as +10; one that names the text first is any text, or a number."""
    choices = get_args(kind) if get_origin(kind) in (Union, UnionType) else ()
    return str in choices and bool({int, float} & set(choices[: choices.index(str)]))


def _item_type(kind: Any) -> Any:
    """Type of the items of a list of plain values; None for any other type."""
    for choice in (kind, *get_args(kind)):
        if get_origin(choice) in (list, tuple) and get_args(choice)[0] in _TYPE_NAMES:
            return get_args(choice)[0]
    return None


def _bracketed(value: str, item: Any) -> str:
    """A list of values with commas between them in brackets, which it may have already."""
    if value.startswith("[") or value in ("", "null"):
        return value
    parts = [part.strip() for part in value.split(",")]
    return f"[{', '.join(json.dumps(part) if item is str else part for part in parts)}]"


def _type_name(kind: Any) -> str:
    """What to write for a value of this type."""
    origin, inner = get_origin(kind), [item for item in get_args(kind) if item not in (NoneType, Ellipsis)]
    if origin is Literal:
        return "{" + ",".join(map(str, inner)) + "}"
    if _has_more(kind):
        return "|".join("+N" if item is str else _type_name(item) for item in inner)
    if origin in (Union, UnionType):
        return "|".join(map(_type_name, inner)).replace("}|{", ",")
    if origin in (list, tuple):
        return f"[{_type_name(inner[0])},...]"
    if origin is dict:
        return "{NAME:VALUE,...}"
    return "{true,false}" if kind is bool else _TYPE_NAMES.get(kind, "VALUE")


def _descriptions(docstring: Docstring) -> dict[str, str]:
    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in docstring.params}


def _value(arguments: Sequence[str], flag: str) -> str | None:
    """The last value given to a flag, None for none."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=False):
        if argument == flag:
            found = following
        elif argument.startswith(f"{flag}="):
            found = argument.partition("=")[2]
    return found
