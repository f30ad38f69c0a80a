"""Turns a typed, documented function into a command: its parameters are the options, its docstring the help."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, get_args, get_origin, get_type_hints

from docstring_parser import Docstring, parse
from jsonargparse import ActionYesNo, ArgumentParser

from protomask.cli.main import BAD_USAGE, FAILED
from protomask.errors import ProtomaskError


def run_verb(verb: str, module: ModuleType, summary: str, arguments: Sequence[str]) -> int:
    """Parse the arguments of a verb and run it.

    The module has a function ``run`` that returns an exit code, and may name its ``POSITIONAL`` parameters and give
    an ``EXAMPLE``; a parameter whose type is a dataclass becomes one option per field, and a --config file.
    """
    run: Callable[..., int] = module.run
    positional: tuple[str, ...] = getattr(module, "POSITIONAL", ())
    description = parse(run.__doc__ or "").short_description or summary
    parser = ArgumentParser(
        prog=f"protomask {verb}", description=f"{description} Example: {module.EXAMPLE}", exit_on_error=True
    )
    settings = _add_function(parser, run, positional)
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    try:
        values = parser.parse_args(list(arguments)).as_dict()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else BAD_USAGE
    debug = values.pop("debug")
    values.pop("config", None)
    try:
        for name, kind in settings.items():
            own = {field.name: values.pop(field.name) for field in dataclasses.fields(kind)}
            values[name] = kind.from_dict(own)
        return run(**values)
    except ProtomaskError as error:
        if debug:
            raise
        print(f"protomask {verb}: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nothing is left to say.
        sys.stderr.close()
        return FAILED
    except KeyboardInterrupt:
        print(f"protomask {verb}: stopped", file=sys.stderr)
        return FAILED


def _add_function(parser: ArgumentParser, run: Callable[..., int], positional: Sequence[str]) -> dict[str, type[Any]]:
    """Add every parameter of a function; returns those that are dataclasses."""
    hints = get_type_hints(run)
    described = _descriptions(parse(run.__doc__ or ""))
    settings: dict[str, type[Any]] = {}
    for name, parameter in inspect.signature(run).parameters.items():
        kind = hints[name]
        text = described.get(name, "")
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            parser.add_argument("--config", action="config", help="YAML file with these settings.")
            _add_fields(parser, kind)
            settings[name] = kind
        elif name in positional and get_origin(kind) is list:
            parser.add_argument(name, nargs="+", type=get_args(kind)[0], help=text)
        elif name in positional:
            parser.add_argument(name, type=kind, help=text)
        else:
            _add_option(parser, name, kind, parameter.default, text)
    return settings


def _add_fields(parser: ArgumentParser, kind: type[Any], prefix: str = "") -> None:
    hints = get_type_hints(kind)
    described = _descriptions(parse(kind.__doc__ or ""))
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            _add_fields(parser, hint, f"{prefix}{field.name}.")
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if default is dataclasses.MISSING:
            default = inspect.Parameter.empty
        _add_option(parser, f"{prefix}{field.name}", hint, default, described.get(field.name, ""))


def _add_option(parser: ArgumentParser, name: str, kind: Any, default: Any, text: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    if kind is bool:
        parser.add_argument(
            flag, action=ActionYesNo(yes_prefix="", no_prefix="no-"), default=default, help=text or None
        )
    elif default is inspect.Parameter.empty:
        parser.add_argument(flag, type=kind, required=True, help=text or None)
    else:
        parser.add_argument(flag, type=kind, default=default, help=text or None)


def _descriptions(docstring: Docstring) -> dict[str, str]:
    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in docstring.params}
