"""The commands beside listening and scoring: each reads its options and calls what does the work."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from edge_runtime.errors import EdgeDetectError, UsageError
from edge_runtime.report.output import Output
from edge_runtime.settings import config, document
from edge_runtime.settings.option import variable
from edge_runtime.settings.schema import SOURCES, Settings
from edge_runtime.system.log import Log
from edge_runtime.system.text import printable

Parser = Callable[..., argparse.ArgumentParser]


def coverage(arguments: Sequence[str], make_parser: Parser) -> int:
    """`edge-detect coverage`: what the ledger says of a time. Raises UsageError, InputError or OutputError."""
    parser = make_parser(
        prog="edge-detect coverage",
        description="What was heard, lost and judged in a time, and whether there was an alarm: from the ledger that "
        "edge-detect --device --ledger PATH keeps. Exit codes: 0 shown; 2 a time that is none; 3 the ledger cannot be "
        "read, or is damaged, and what could be read was shown.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--since",
        default="24h",
        metavar="TIME",
        help="where to begin: 24h, 7d, 90m, 10:00, 2026-11-24 or '2026-11-24 10:00' (default 24h)",
    )
    parser.add_argument("--until", metavar="TIME", help="where to end, likewise (default: now)")
    parser.add_argument("--per", choices=("minute", "hour", "day"), help="a line for each as well")
    parser.add_argument("--ledger", metavar="PATH", help="the ledger (default: that of the configuration)")
    parser.add_argument("--config", metavar="PATH", help="the configuration that names the ledger")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args(arguments)
    ledger = given.ledger
    if ledger is None:
        path = {} if given.config is None else {"config": given.config}
        ledger = config.effective(path).values.get("ledger")
    if not ledger:
        raise UsageError(
            "no ledger to read: give --ledger PATH, or a configuration that names one "
            f"(--config or {variable('config')})"
        )
    from edge_runtime.report.coverage.report import show

    return show(ledger, given.since, given.until, given.per, given.json, Output(sys.stdout))


def commission(arguments: Sequence[str], make_parser: Parser, stopped: Callable[[], bool]) -> int:
    """`edge-detect commission`: whether this box is fit. Gives the exit code.

    Raises UsageError, OutputError, ReaderGone, or InputError when it was `stopped()`.
    """
    from edge_runtime.commission import order

    parser = make_parser(
        prog="edge-detect commission",
        description="Tests a box with its microphone before it is relied on: configuration, model, microphone, noise "
        "floor, clipping, lost sound, speed and, with clips, verdicts. The service must not run meanwhile. Exit codes: "
        "0 fit (there may be warnings); of the first check that failed: 2 configuration, 3 microphone, or a clip that "
        "cannot be read, 4 model, 12 too slow, or a clip judged wrongly; 5 the report cannot be written.",
        allow_abbrev=False,
    )
    parser.add_argument("--device", metavar="NAME", help="the microphone (default: the configuration's, or default)")
    parser.add_argument("--config", metavar="PATH", help="the configuration that the box will run with")
    parser.add_argument(
        "--seconds", type=order.duration, default=10.0, metavar="SECONDS", help="how long to listen (default 10)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object in the place of text for people")
    parser.add_argument("--output", metavar="PATH", help="a file that gets the JSON object too; its folder is made")
    parser.add_argument(
        "--clip",
        type=order.clip,
        action="extend",
        nargs="+",
        default=[],
        metavar="FILE:KIND",
        help="sound files to judge, and whether each is human or synthetic (bonafide and spoof are taken too)",
    )
    asked = parser.parse_args(arguments)
    given = {name: getattr(asked, name) for name in ("device", "config") if getattr(asked, name) is not None}

    from edge_runtime.commission.deliver import deliver
    from edge_runtime.commission.run import commission

    log = Log()
    tell = log.debug if asked.json else log.info
    found = commission(order.CommissionRequest(given, asked.seconds, asked.clip), stopped, tell)
    deliver(found, asked.output, asked.json, Output(sys.stdout))
    return found.exit_code


def inspect(arguments: Sequence[str], make_parser: Parser) -> int:
    """`edge-detect inspect MODEL`: what a model file says of itself. Raises UsageError, ModelError or OutputError."""
    parser = make_parser(
        prog="edge-detect inspect",
        description="What a model file says of itself: what a person asks first, or all of it. Exit codes: 0 shown; 4 "
        "the file is missing, damaged or no model of edge-detect.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "model",
        nargs="?",
        help="an ONNX file that `edge-detect export` or `quantize` wrote (default: the one that is shipped)",
    )
    parser.add_argument("--all", action="store_true", help="all that stands in the file, in lines")
    parser.add_argument("--json", action="store_true", help="all of it as one JSON object")
    given = parser.parse_args(arguments)
    from edge_runtime.app import inspection

    facts = inspection.inspect(given.model)
    if given.json:
        text = json.dumps(facts, indent=2)
    else:
        text = inspection.table(facts if given.all else inspection.first(facts))
    Output(sys.stdout).write(text + "\n")
    return 0


def status(arguments: Sequence[str], make_parser: Parser) -> int:
    """`edge-detect status`: whether the service listens. Gives 0 where it does and 3 where not. Raises UsageError."""
    parser = make_parser(
        prog="edge-detect status",
        description="Whether the service listens, what it says now, and its last lines. Exit codes: 0 it listens; 3 it "
        "does not, or there is no service here.",
        allow_abbrev=False,
    )
    parser.add_argument("--unit", default="edge-detect.service", help="the unit (default %(default)s)")
    parser.add_argument("--lines", type=int, default=8, metavar="N", help="lines of its journal (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args(arguments)
    from edge_runtime.app.service_state import show

    return show(given.unit, given.lines, given.json, Output(sys.stdout))


def support(arguments: Sequence[str], make_parser: Parser) -> int:
    """`edge-detect support`: an archive for a bug report. Raises UsageError or OutputError."""
    parser = make_parser(
        prog="edge-detect support",
        description="Packs what a bug report needs into one archive: machine, versions, microphones, settings, model, "
        "the service's state and journal, coverage of 24 hours. No sound, no clips, no password: addresses of streams "
        "lose theirs. Look through it before you send it. Exit codes: 0 written; 5 it cannot be written.",
        allow_abbrev=False,
    )
    parser.add_argument("-o", "--output", default=None, metavar="PATH", help="default: edge-detect-support.tar.gz")
    parser.add_argument("--config", metavar="PATH", help="the configuration that the box runs with")
    parser.add_argument("--unit", default="edge-detect.service", help="the unit (default %(default)s)")
    given = parser.parse_args(arguments)
    from edge_runtime.app.support import pack

    path, names = pack(given.output or "edge-detect-support.tar.gz", given.config, given.unit)
    Output(sys.stdout).write(f"wrote {printable(str(path))}: {', '.join(names)}\n")
    return 0


def configuration(
    arguments: Sequence[str],
    make_parser: Parser,
    parse: Callable[[Sequence[str]], dict[str, Any]],
    stopped: Callable[[], bool],
) -> int:
    """`edge-detect config check|show|document|schema`. `parse` reads the options of the main command.

    Raises UsageError, or Ended when it was `stopped()` while it tried a model.
    """
    parser = make_parser(
        prog="edge-detect config",
        description="Looks at the configuration: one TOML file, the environment and the command line.",
        allow_abbrev=False,
    )
    kinds = parser.add_subparsers(dest="kind", metavar="check | show | document | schema")
    check = kinds.add_parser("check", allow_abbrev=False, help="all that is wrong with a file; exit code 2 if any")
    check.add_argument("file", nargs="?", metavar="FILE", help=f"(default: the one that {variable('config')} names)")
    check.add_argument("--config", metavar="FILE", help="the same")
    kinds.add_parser(
        "show", add_help=False, help="the values in effect and where each comes from; takes edge-detect's options"
    )
    written = kinds.add_parser("document", allow_abbrev=False, help="a complete file with every option and its default")
    written.add_argument("--markdown", action="store_true", help="as a page")
    written.add_argument("--lines", action="store_true", help="the JSON lines in place of the options, as a page")
    schema = kinds.add_parser("schema", allow_abbrev=False, help="a JSON schema of the configuration, or of the lines")
    schema.add_argument("--lines", action="store_true", help="of the JSON lines")
    if arguments[:1] == ["show"]:
        return _show(parse(arguments[1:]))
    given = parser.parse_args(arguments)
    if given.kind is None:
        raise UsageError("say check, show, document or schema")
    if given.kind == "document":
        if given.lines:
            from edge_runtime.report import lines

            text = lines.as_markdown()
        else:
            text = document.as_markdown() if given.markdown else document.as_toml()
        Output(sys.stdout).write(text)
        return 0
    if given.kind == "schema":
        from edge_runtime.report import lines

        made = lines.schema() if given.lines else document.schema()
        Output(sys.stdout).write(json.dumps(made, indent=2) + "\n")
        return 0
    if given.file is not None and given.config is not None:
        raise UsageError("name one file to check: FILE or --config FILE")
    return _check(given.file or given.config, stopped)


def _show(given: dict[str, Any]) -> int:
    found = config.effective(given)
    if any(found.values.get(name) for name in SOURCES):
        found.settings()  # raises what would keep it from running
    Output(sys.stdout).write(document.as_shown(found))
    return 0


def _check(path: str | None, stopped: Callable[[], bool]) -> int:
    path = path or os.environ.get(variable("config"))
    if not path:
        raise UsageError(f"name the file to check: edge-detect config check FILE (or set {variable('config')})")
    wrong = config.problems(path, functools.partial(_rehearse, stopped))
    if wrong:
        log = Log()
        for line in wrong:
            log.error(line)
        return UsageError.exit_code
    Output(sys.stdout).write(f"{printable(path)} is in order\n")
    return 0


def _rehearse(stopped: Callable[[], bool], settings: Settings) -> list[str]:
    """What would keep a run with these settings from beginning."""
    from edge_runtime.report.hook import need
    from edge_runtime.run.live import rehearse  # late, as ONNX Runtime takes seconds to load on a small board

    found: dict[str, None] = {}

    def attempt(step: Callable[[], object]) -> bool:
        try:
            step()
        except EdgeDetectError as reason:
            found[str(reason)] = None
            return False
        return True

    # A rehearsal ends with the first fault, which shall not hide those after it.
    if not attempt(lambda: rehearse(settings, stopped)):
        attempt(lambda: rehearse(dataclasses.replace(settings, window=None, hop=None), stopped))
        attempt(lambda: need(settings.exec) if settings.exec else None)
    return list(found)
