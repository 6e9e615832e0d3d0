"""A chat server in a process of its own: answers after a fixed time with the passages in order of the grade they state.

python steady_server.py SECONDS        prints its port, then serves until it is ended
"""

import asyncio
import json
import re
import sys


async def serve(reader, writer, delay, counts):
    while line := await reader.readline():
        path, length = line.split()[1], 0
        while (line := await reader.readline()).strip():
            name, _, value = line.decode().partition(":")
            if name.lower() == "content-length":
                length = int(value)
        body = await reader.readexactly(length)
        if path == b"/counts":
            reply = json.dumps(counts).encode()
            counts.update(requests=0, most=0)
        else:
            counts["requests"] += 1
            counts["open"] += 1
            counts["most"] = max(counts["most"], counts["open"])
            await asyncio.sleep(delay)
            counts["open"] -= 1
            reply = answer(json.loads(body)["messages"][1]["content"])
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(reply) + reply
        )
    writer.close()


def answer(prompt):
    found = re.findall(r"\[(\d+)\]\n<passage>\ngrade (\d+)", prompt)
    text = " > ".join(f"[{label}]" for label, _ in sorted(found, key=lambda pair: -int(pair[1])))
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return json.dumps(
        {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    ).encode()


async def main(delay):
    counts = {"requests": 0, "open": 0, "most": 0}
    server = await asyncio.start_server(lambda r, w: serve(r, w, delay, counts), "127.0.0.1", 0, backlog=256)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
