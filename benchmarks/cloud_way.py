"""A way to a server that is so far away: every request waits before it gets there. Started by `cloud`, a process each.

    python -m benchmarks.cloud_way LISTEN_PORT TARGET_PORT MILLISECONDS

Bytes pass as they are; what comes from the client after the server has spoken last is a new request, and waits. So does
the first of a connection. Nothing else is slowed down, neither by a limit of bytes nor for a second packet.
"""

import asyncio
import socket
import sys

_ROOM = 1 << 18


async def _pass_on(client: socket.socket, target: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = socket.socket()
    server.setblocking(False)
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answered = True

    async def stream(source: socket.socket, sink: socket.socket, *, asks: bool) -> None:
        nonlocal answered
        room = memoryview(bytearray(_ROOM))
        while size := await loop.sock_recv_into(source, room):
            if asks and answered:
                await asyncio.sleep(seconds)
            answered = not asks
            await loop.sock_sendall(sink, room[:size])
        sink.shutdown(socket.SHUT_WR)

    with client, server:
        try:
            await loop.sock_connect(server, ("127.0.0.1", target))
            await asyncio.gather(stream(client, server, asks=True), stream(server, client, asks=False))
        except OSError:
            pass  # either end may leave


async def _serve(listen: int, target: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", listen), backlog=128) as listening:
        listening.setblocking(False)
        on_their_way = set()
        while True:
            client, _ = await loop.sock_accept(listening)
            task = loop.create_task(_pass_on(client, target, seconds))
            on_their_way.add(task)
            task.add_done_callback(on_their_way.discard)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
