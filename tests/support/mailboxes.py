"""Servers on loopback that keep what they receive: mails by SMTP, requests by HTTP."""

from __future__ import annotations

import email
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs


@dataclass
class Mailbox:
    """The mails that arrived, and the port of the server."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)

    @property
    def subjects(self) -> list[str]:
        return [str(mail["subject"]) for mail in self.mails]

    def body(self, number: int) -> str:
        part = self.mails[number].get_body()
        assert part is not None
        return str(part.get_content())


@contextmanager
def mail_server(port: int = 0) -> Iterator[Mailbox]:
    """An SMTP server without authentication and encryption."""
    box = Mailbox(port)

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 ready")
            for line in self.rfile:
                verb = line.split(b" ", 1)[0].strip().upper()
                if verb == b"DATA":
                    self._say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    text = b"".join(line.removeprefix(b".") if line.startswith(b"..") else line for line in lines)
                    box.mails.append(email.message_from_bytes(text, policy=policy.default))
                self._say("221 bye" if verb == b"QUIT" else "250 ok")
                if verb == b"QUIT":
                    return

        def _say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", port), Session) as server:
        box.port = server.server_address[1]
        Thread(target=server.serve_forever, daemon=True).start()
        yield box
        server.shutdown()


@contextmanager
def topic_server() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that answers Amazon SNS's `Publish`: its address, and the requests that it received."""
    published: list[dict[str, str]] = []

    class Topic(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            published.append({key: values[0] for key, values in parse_qs(body).items()})
            answer = b"<PublishResponse xmlns='http://sns.amazonaws.com/doc/2010-03-31/'><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>"
            self.send_response(200)
            self.send_header("content-type", "text/xml")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Topic) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", published
        server.shutdown()
