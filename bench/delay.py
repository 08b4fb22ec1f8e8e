#!/usr/bin/python3
"""A TCP forwarder on loopback that holds every byte back for some
milliseconds, each way; prints the port it listens on.

    delay.py PORT MILLISECONDS
"""

import asyncio
import sys

AT_ONCE = 1 << 18


async def pump(reader, writer, delay_s):
    """What arrives is written after the delay, however much is on its way."""
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue()

    async def deliver():
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0, due - loop.time()))
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    while True:
        data = await reader.read(AT_ONCE)
        queue.put_nowait((loop.time() + delay_s, data))
        if not data:
            break
    await delivery


async def main():
    port, delay_s = int(sys.argv[1]), float(sys.argv[2]) / 1000

    async def forward(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back, delay_s),
                             pump(there, writer, delay_s),
                             return_exceptions=True)
        back.close()
        writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
