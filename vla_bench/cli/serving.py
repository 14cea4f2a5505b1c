"""`serve`: a policy of ours behind a server."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from vla_bench.cli.shared import app


@app.command()
def serve(
    policy: Annotated[str, typer.Option(help="The policy; NAME:FOLDER takes weights of your own.")],
    precision: Annotated[str | None, typer.Option(help="A precision of its card; default the first.")] = None,
    protocol: Annotated[str, typer.Option(help="vla-eval, openpi or rest.")] = "vla-eval",
    host: Annotated[
        str, typer.Option(help="Address to listen at; 127.0.0.1 is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="VLA_BENCH_TOKEN", show_envvar=True, help="What clients must show."),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Requests answered together; 1 is exact with any number of clients.")
    ] = 8,
    wire: Annotated[
        str | None,
        typer.Option(help="Card whose conventions other projects' clients keep; default the protocol's."),
    ] = None,
) -> None:
    """Serve a policy to clients of vla-bench, vla-eval, openpi, or OpenVLA's REST."""
    from vla_bench.policy.cards import load_policy, read_card
    from vla_bench.policy.remote.server.endpoint import listen
    from vla_bench.policy.remote.server.served import Served

    card = read_card(policy)
    precision = precision or card.precisions[0]
    served = Served(load_policy(policy, precision), card, precision, max_batch=max_batch)
    endpoint = listen(served, protocol, host=host, port=port, token=token, card=wire)
    # from another thread: the one that serves cannot wait for itself to stop
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=endpoint.shutdown).start())
    print(f"{served.name} speaks {protocol} at {endpoint.address}", flush=True)
    print(f"health: http://{endpoint.address}/health; Ctrl-C stops", flush=True)
    if not host.startswith("127.") and token is None:
        print("look: whoever can reach this machine can ask, as no token was given", flush=True)
    endpoint.serve_forever()
    served.close()
    print(f"answered {served.answered} requests", flush=True)
