"""A small HTTP/1.1 client on asyncio, which binds to a chosen address."""

import asyncio
import json
import time

from service import standstill


class Answer:
    """A status, headers with lower-case names, and a body."""

    def __init__(self, status: int, headers: dict[bytes, bytes], body: bytes):
        self.status, self.headers, self.body = status, headers, body


class Connection:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int, source: str = "127.0.0.1") -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))

    async def get(self, path: str) -> Answer:
        return await self.exchange(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    async def post(self, path: str, **fields: str) -> Answer:
        body = json.dumps(fields)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return await self.exchange(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())

    async def exchange(self, request: bytes) -> Answer:
        """Raises ConnectionError when the connection ends before the answer is whole."""
        try:
            self.writer.write(request)
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:-4].split(b"\r\n")
            pairs = (line.split(b":", 1) for line in lines)
            headers = {name.lower(): value.strip() for name, value in pairs}
            body = await self.reader.readexactly(int(headers.get(b"content-length", 0)))
        except asyncio.IncompleteReadError as e:
            raise ConnectionResetError("closed before the answer") from e
        return Answer(int(first.split(b" ")[1]), headers, body)

    async def register(self, name: str) -> str:
        """Signs up alone on the machine, so that only a standstill of it fills the queue; the password."""
        for _ in range(1 + standstill.AGAIN):
            began = time.monotonic()
            answer = await self.post("/register", username=name, email=f"{name}@example.com")
            if not standstill.excuses(answer.status, answer.body, began):
                break
            await asyncio.sleep(int(answer.headers[b"retry-after"]))
        if answer.status != 201:
            raise RuntimeError(f"a sign-up was answered {answer.status}: {answer.body.decode()}")
        return json.loads(answer.body)["password"]

    def close(self) -> None:
        self.writer.close()
