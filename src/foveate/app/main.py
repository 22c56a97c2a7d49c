"""The command `foveate`. Each verb loads what it needs when it runs, so that help comes at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from foveate.app import learning
from foveate.app.guard import DONE, USAGE, guard

app = typer.Typer(
    name="foveate",
    help="Recognise what happens in video while looking only where it matters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights_app = typer.Typer(
    help="Pretrained weights: what there is, fetch it, verify it.", no_args_is_help=True
)
app.add_typer(weights_app, name="weights")
learning.add_to(app)

Inputs = Annotated[list[str], typer.Argument(metavar="INPUT...", help="Media files or folders.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]


def _version(asked: bool) -> None:
    if asked:
        from foveate import __version__

        print(f"foveate {__version__}")
        raise typer.Exit(DONE)


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if debug:
        os.environ["FOVEATE_DEBUG"] = "1"


@app.command()
def predict(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT...", help="Media files or folders.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="A preset, or a model with its weights.")
    ] = "movinet-a0-stream-lite.k600",
    json_path: Annotated[
        str | None,
        typer.Option("--json", metavar="PATH|-", help="Write JSON Lines, one Result per input."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write one self-contained HTML page.")
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option("--video", help="Write an annotated MP4; a folder: one for each input."),
    ] = None,
    look: Annotated[
        str | None,
        typer.Option("--look", help="uniform, keyframes-first, motion-patch, resize, ..."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", help="Such as 100MMAC/s, 2ms/frame, 3fps; for a cascade 5GMAC or 20ms."
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option("--order", help="Of a cascade's modalities: measured or published."),
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", help="Labels to show.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Inputs computed together.")] = 1,
    config: Annotated[
        Path | None, typer.Option("--config", help="A preset as YAML (see --print-config).")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings in force and stop.")
    ] = False,
    trace: Annotated[
        bool, typer.Option("--trace/--no-trace", help="Keep which frames were looked at.")
    ] = True,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu or cuda:0; default: CUDA if there is one.")
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Threads of the network on the CPU.")
    ] = 1,
    offline: Offline = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no tables.")] = False,
) -> None:
    """Recognise what happens in media files, or in every video of a folder."""
    from foveate.app.predict import Request, run

    request = Request(
        inputs=tuple(inputs or ()), model=model, json_path=json_path, report=report, video=video,
        look=look, budget=budget, order=order, top_k=top_k, batch=batch, config=config,
        sets=tuple(sets or ()), print_config=print_config, trace=trace, device=device,
        threads=threads, offline=offline, quiet=quiet,
    )  # fmt: skip
    guard(lambda: run(request))


@app.command()
def explain(
    inputs: Inputs,
    look: Annotated[
        str, typer.Option("--look", help="A look that chooses windows, such as motion-patch.")
    ] = "motion-patch",
    model: Annotated[
        str, typer.Option("--model", "-m", help="Whose size and rate count; it does not run.")
    ] = "movinet-a0-stream-lite.k600",
    video: Annotated[
        Path | None, typer.Option("--video", help="Write an MP4: frame, map, window and track.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write one self-contained HTML page.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")
    ] = None,
) -> None:
    """Show where a look looks and why: frame, map of motion, window, track, gate, fallback."""
    from foveate.app.explain import Request, run

    request = Request(tuple(inputs), look, model, video, report, tuple(sets or ()))
    guard(lambda: run(request))


@app.command()
def probe(
    inputs: Inputs,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object per input.")] = False,
) -> None:
    """Say what a file is: codec, size, rate, rotation, frames, key frames, audio, vectors."""
    from foveate.app.probe import run

    guard(lambda: run(inputs, json_lines))


@app.command()
def doctor() -> None:
    """Say what is installed, what is missing, and the line that mends it."""
    from foveate.app.doctor import run

    guard(run)


@weights_app.command("list")
def weights_list() -> None:
    """What weights there are, whose they are, and whether they are on this machine."""
    from foveate.app.weights import list_all

    guard(list_all)


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="ARCH.TAG, or `all`.")],
    offline: Offline = False,
) -> None:
    """Download weights into the cache, checked by sha256."""
    from foveate.app.weights import fetch

    guard(lambda: fetch(names, offline))


@weights_app.command("verify")
def weights_verify() -> None:
    """Hash every weight file on this machine against the table."""
    from foveate.app.weights import verify

    guard(verify)


@weights_app.command("import")
def weights_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".safetensors, .npz, .pth or .pt.")],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="Load it by this name.")],
    system: Annotated[
        str | None, typer.Option("--system", help="Whose checkpoint; found by trying if not said.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An argument of the original network."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Text file, line i is the name of class i.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="SPDX identifier, if its owner states one.")
    ] = None,
) -> None:
    """Import the checkpoint of another project; every name in it must find its place."""
    from foveate.app.weights import import_one

    guard(lambda: import_one(file, name, system, tuple(sets or ()), labels, licence))


def main() -> None:
    """Entry point of the command; a mistake in its words costs one line."""
    try:
        code = app(prog_name="foveate", standalone_mode=False)
    except Exception as error:
        # typer's errors know how to say themselves; their module differs from version to version.
        say = getattr(error, "format_message", None)
        if say is None:
            raise
        text: str = say()
        context = getattr(error, "ctx", None)
        verb = context.command_path if context is not None else "foveate"
        if text.strip():  # it is empty where the help was shown instead
            print(f"foveate: {text.strip().rstrip('.')} (type: {verb} --help)", file=sys.stderr)
        code = USAGE
    raise SystemExit(code)
