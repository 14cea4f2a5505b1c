"""Says to whoever asks for a policy whose process cannot be started any more why that is so."""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Obituary:
    """Answers every request at an address with status 410 and a sentence, until it is closed.

    Args:
        host, port: Where the policy was.
        why: The sentence.

    Raises:
        OSError: The address cannot be listened at.
    """

    def __init__(self, host: str, port: int, why: str) -> None:
        body = why.encode()

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # which WebSocket clients insist on

            def do_GET(self) -> None:
                self.send_response(HTTPStatus.GONE)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, port), Answer)
        self._thread = threading.Thread(target=self._server.serve_forever, name="obituary", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Say no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
