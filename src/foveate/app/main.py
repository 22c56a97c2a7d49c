"""The command `foveate`. Each command imports what it needs when it runs, so that help is fast."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar, cast

import typer
from typer.core import TyperCommand, TyperGroup

from foveate.app import requests, training_requests
from foveate.app.guard import DEBUG, DONE, USAGE, guard
from foveate.app.requests import Inputs, Offline, Rate, add_command

F = TypeVar("F", bound=Callable[..., Any])
# Texts of typer in the words of the settings' errors (see `core.config`).
_PLAIN = (
    ("Input should be", "must be"),
    ("greater than or equal to", "at least"),
    ("less than or equal to", "at most"),
)
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def _without_flag_types(params: list[Any]) -> list[Any]:
    """Flags without a type in the help: some versions of typer print `<bool>` beside them."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_flag_types(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """A command may have a name of two words, such as `bench engines`."""
        both = " ".join(args[:2])
        return super().resolve_command(ctx, [both, *args[2:]] if both in self.commands else args)


class _SearchGroup(_Group):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What is no command is the first argument of `study`: `foveate search VIDEOS`."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["study", *args]
        return super().parse_args(ctx, args)


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_flag_types(super().get_params(ctx))


def _with_debug(function: F) -> F:
    """Add the option `--debug` to a command."""

    @wraps(function)
    def call(debug: bool = False, **values: Any) -> Any:
        _root(debug)
        return function(**values)

    signature = inspect.signature(function, eval_str=True)
    option = inspect.Parameter(
        "debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug
    )
    call.__annotations__ = {**function.__annotations__, "debug": Debug}
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), option]
    )
    return cast(F, call)


class _Typer(typer.Typer):
    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:
        add = super().command(name, cls=_Command, **settings)
        return lambda function: add(_with_debug(function))


app = _Typer(
    name="foveate",
    cls=_Group,
    help="Recognise what happens in video while looking only where it matters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = _Typer(
    cls=_Group, help="Data sets of labelled videos: check, render, transcode.", no_args_is_help=True
)
weights_app = _Typer(
    cls=_Group, help="Pretrained weights: list, fetch, verify, import.", no_args_is_help=True
)
pipeline_app = _Typer(
    cls=_Group, help="Pipelines: list, show, schema, validate.", no_args_is_help=True
)
search_app = _Typer(
    cls=_SearchGroup,
    help="Search for pipelines on labelled videos (`foveate search VIDEOS`), or for networks that "
    "cost no more than a target.",
    no_args_is_help=True,
)


def _version(requested: bool) -> None:
    if requested:
        from foveate import __version__

        print(f"foveate {__version__}")
        raise typer.Exit(DONE)


@app.callback()
def _root(
    debug: Debug = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"


add_command(app, "predict", requests.PredictRequest, "predict")
add_command(app, "detect", requests.DetectRequest, "detect")
add_command(app, "watch", requests.WatchRequest, "watch")
add_command(app, "events", requests.EventsRequest, "events")
add_command(app, "explain", requests.ExplainRequest, "explain")
add_command(app, "train", training_requests.TrainRequest, "train")
add_command(app, "fit", training_requests.FitRequest, "fit")
add_command(app, "evaluate", requests.EvaluateRequest, "evaluate")
add_command(app, "bench", requests.BenchRequest, "bench")
add_command(app, "bench engines", requests.BenchEnginesRequest, "export", "bench")
add_command(app, "export", requests.ExportRequest, "export")
add_command(data_app, "check", requests.CheckRequest, "data", "check")
add_command(data_app, "make", requests.MakeRequest, "data", "make")
add_command(data_app, "transcode", requests.TranscodeRequest, "data", "transcode")
add_command(data_app, "timelines", requests.TimelinesRequest, "data", "timelines")
add_command(pipeline_app, "show", training_requests.ShowPipelineRequest, "pipelines", "show")
add_command(pipeline_app, "validate", training_requests.ValidateRequest, "pipelines", "validate")
add_command(search_app, "study", training_requests.SearchRequest, "search", "study")
add_command(
    search_app, "architecture", training_requests.ArchitectureRequest, "search", "architecture"
)
add_command(search_app, "scaling", training_requests.ScalingRequest, "search", "scaling")
add_command(weights_app, "import", requests.ImportRequest, "weights", "import_one")
app.add_typer(data_app, name="data")
app.add_typer(pipeline_app, name="pipeline")
app.add_typer(search_app, name="search")
app.add_typer(weights_app, name="weights")


@app.command()
def probe(
    inputs: Inputs,
    fps: Rate = None,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object per input.")] = False,
) -> None:
    """Print the properties of a file: codec, size, rate, rotation, key frames, audio, vectors."""
    from foveate.app.probe import run

    guard(lambda: run(inputs, fps, json_lines))


@app.command()
def doctor() -> None:
    """Print what is installed, what is missing, and the command that installs it."""
    from foveate.app.doctor import run

    guard(run)


@pipeline_app.command("list")
def pipeline_list() -> None:
    """List the pipelines that come with the package, and the kinds that pipelines are made of."""
    from foveate.app.pipelines import list_all

    guard(list_all)


@pipeline_app.command("schema")
def pipeline_schema() -> None:
    """Print the JSON Schema of pipelines, for editors and forms."""
    from foveate.app.pipelines import schema

    guard(schema)


@weights_app.command("list")
def weights_list(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Print the details of these.")
    ] = None,
) -> None:
    """List the weights: classes, size, licence, where they are, accuracy."""
    from foveate.app.weights import list_all

    guard(lambda: list_all(names or ()))


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="ARCH.TAG, or `all`.")],
    offline: Offline = False,
) -> None:
    """Download weights into the cache and check their sha256."""
    from foveate.app.weights import fetch

    guard(lambda: fetch(names, offline))


@weights_app.command("verify")
def weights_verify() -> None:
    """Check the sha256 of every weight file on this machine."""
    from foveate.app.weights import verify

    guard(verify)


def main() -> None:
    """Entry point of the command; a usage error is one line."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # damaged pictures are warnings of results
    # Threads of PyTorch that wait by spinning make two threads slower than one on a busy machine;
    # those of OpenCV gain nothing on small pictures (`benchmarks/threads.py`).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
    try:
        code = app(prog_name="foveate", standalone_mode=False)
    except Exception as error:
        # Usage errors of typer format themselves; their module differs between versions.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        text: str = format_message()
        for said, plain in _PLAIN:
            text = text.replace(said, plain)
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "foveate"
        if text.strip():  # empty if the help was printed instead
            print(f"foveate: {text.strip().rstrip('.')} (type: {command} --help)", file=sys.stderr)
        code = USAGE
    raise SystemExit(code)
