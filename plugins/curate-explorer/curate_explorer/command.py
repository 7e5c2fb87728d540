"""`curate explore`: serves the page until it is interrupted."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import webbrowser
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.cli.session import Session, pass_session
from curate.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from curate_explorer.comparison import Comparison
    from curate_explorer.index import Index


@click.command()
@click.argument("path", metavar="RUN|MANIFEST", type=click.Path(path_type=Path))
@click.argument("other", metavar="[OTHER]", required=False, type=click.Path(path_type=Path))
@click.option("--port", default=0, help="The port on 127.0.0.1; by default a free one.")
@click.option("--open/--no-open", "opens", default=True, help="Whether to open the page in a browser.")
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    help="The file of labels; by default PATH.annotations.jsonl, next to the run or the manifest.",
)
@click.option("--audio-root", multiple=True, help="A folder that a manifest's audio may lie in. Can be repeated.")
@click.option(
    "--cache", type=click.Path(path_type=Path), help="The folder of indexes; by default ~/.cache/curate/explorer."
)
@pass_session
def explore(
    session: Session,
    path: Path,
    other: Path | None,
    port: int,
    opens: bool,
    annotations: Path | None,
    audio_root: tuple[str, ...],
    cache: Path | None,
) -> None:
    """Look at, hear, threshold and label the records of a run or a manifest, in a browser on this machine.

    The page shows all records, also those that were filtered or have failed. It needs no network and answers only to
    this machine; its address has a secret. Ctrl-C ends it, and all labels are on the disk by then.

    With OTHER, a second run or manifest, a page shows the two side by side: records are matched by their ids.
    """

    from curate_explorer.annotations import Annotations
    from curate_explorer.answers import Answers, filters_of
    from curate_explorer.audio import Clips
    from curate_explorer.comparison import Comparison
    from curate_explorer.index import Index
    from curate_explorer.refilter import Refilter
    from curate_explorer.server import Gate, Pages
    from curate_explorer.source import RunSource, open_source

    source = open_source(path, audio_root)
    index = Index(source, cache or _cache())
    comparison = None
    if other is not None:
        second = open_source(other, audio_root)
        if second.key == source.key:
            raise UsageError(f"{path} and {other} are the same: name two different runs")
        comparison = Comparison(index, Index(second, cache or _cache()))
    run = source.run if isinstance(source, RunSource) else None
    filters = [] if run is None else filters_of(run)
    labels = Annotations(annotations or path.resolve().with_name(f"{path.resolve().name}.annotations.jsonl"))
    refilter = Refilter(run, [each.name for each in filters])
    listener = _listener(port)
    bound, token = listener.getsockname()[1], secrets.token_urlsafe(24)
    hosts = frozenset({f"127.0.0.1:{bound}", f"localhost:{bound}"})
    pages = Pages(Answers(index, filters, labels), Clips(source.roots, source.base), refilter, comparison)
    app = Gate(pages.application(), hosts, token, f"curate-{bound}")
    address = f"http://127.0.0.1:{bound}/{'' if comparison is None else 'compare'}?token={token}"
    session.console.print(f"Explore {path if other is None else f'{path} and {other}'} at {address}", soft_wrap=True)
    if not index.is_complete:
        session.messages.print("The index is made meanwhile; the page shows how far it is. Ctrl-C ends it.")

    builder = threading.Thread(target=_build, args=(index, comparison), name="explorer-index", daemon=True)
    builder.start()
    if opens:
        webbrowser.open(address)
    uvicorn: Any = import_module("uvicorn")  # not in the light environment, in which types are checked
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
    try:
        server.run(sockets=[listener])
    finally:
        refilter.close()
        index.close()
        if comparison is not None:
            comparison.close()
        builder.join(timeout=30)


def _build(index: Index, comparison: Comparison | None) -> None:
    index.build()
    if comparison is not None:
        comparison.build()


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)  # a request that arrives before the server is ready waits
    except OSError as error:
        listener.close()
        raise InfrastructureError(f"port {port} is not free ({error}); leave --port out to take a free one") from None
    return listener


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "curate" / "explorer"
