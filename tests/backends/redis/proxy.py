"""Stands between the engine and a server, and does to connections what networks do."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Proxy:
    """Stands before a server and breaks connections when it is told to."""

    def __init__(self, port: int) -> None:
        #: Where new connections lead; those that are there stay where they are.
        self.leads_to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._left = 0
        self._reached = True
        self.cuts = 0
        self.port = self._listener.getsockname()[1]

    def cut_next(self, times: int = 1, *, reached: bool) -> None:
        """Break the connection at the next scripts, which the server has got or not."""
        self._left, self._reached = times, reached

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        for sock in [self._listener, *self._sockets]:
            close(sock)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.leads_to))
            self._sockets += (near, far)
            threading.Thread(target=self._requests, args=(near, far), daemon=True).start()

    def _requests(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(1 << 20):
                is_cut = self._left > 0 and b"EVALSHA" in data
                if not is_cut or self._reached:
                    far.sendall(data)
                    answer = far.recv(1 << 20)
                if is_cut:
                    self._left -= 1
                    self.cuts += 1
                    break
                near.sendall(answer)
        close(near)
        close(far)


def close(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
