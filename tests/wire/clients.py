"""Clients of HTTP/1.1 and HTTP/2 that never wait by themselves: whoever has them turns them, and sees what each request came to."""
import http.client
import io
import selectors
import socket
import ssl
import time

import h2.config
import h2.connection
import h2.events

# What hangs is wrong; nothing is said about how long it may take otherwise.
PATIENCE = 240


class Request:
    """What was asked, and what came of it. `ended`: nothing more comes; `whole`: it came to its proper end."""

    def __init__(self, head, body=b""):
        self.head, self.left = head, memoryview(body)
        self.status, self.headers, self.body = None, {}, bytearray()
        self.ended = self.whole = False

    def __repr__(self):
        state = "whole" if self.whole else "cut off" if self.ended else "under way"
        return f"{self.head.get(':authority')}{self.head.get(':path')}: {self.status}, {len(self.body)} bytes, {state}, {len(self.left)} left"


def request(host, path, body=None, **headers):
    head = {":method": "GET" if body is None else "POST", ":scheme": "https", ":authority": host, ":path": path}
    if body is not None:
        head["content-length"] = str(len(body))
    return Request(head | headers, body or b"")


class Http1:
    """One request over one connection, which ends with it."""

    def __init__(self, port, one):
        self.requests, self.got = [one], bytearray()
        more = "".join(f"{name}: {value}\r\n" for name, value in one.head.items() if not name.startswith(":"))
        head = f"{one.head[':method']} {one.head[':path']} HTTP/1.1\r\nHost: {one.head[':authority']}\r\nConnection: close\r\n{more}\r\n"
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(head.encode())
        self.socket.setblocking(False)

    @property
    def one(self):
        return self.requests[0]

    @property
    def closed(self):
        return self.one.ended

    def wants_to_write(self):
        return not self.one.ended and bool(self.one.left)

    def turn(self):
        try:
            while self.wants_to_write():
                self.one.left = self.one.left[self.socket.send(self.one.left[:1 << 18]):]
        except BlockingIOError:
            pass
        except OSError:
            # It takes no more; what it says about that may be there already.
            self.one.left = memoryview(b"")
        try:
            while piece := self.socket.recv(1 << 18):
                self.got += piece
        except BlockingIOError:
            return
        except OSError:
            pass
        self.one.ended = True
        self.read()

    def read(self):
        answer = http.client.HTTPResponse(Bytes(self.got))
        try:
            answer.begin()
        except (http.client.HTTPException, OSError):
            return
        self.one.status, self.one.headers = answer.status, {name.lower(): value for name, value in answer.getheaders()}
        try:
            self.one.body = answer.read()
            self.one.whole = True
        except http.client.IncompleteRead as cut:
            self.one.body = cut.partial


class Bytes:
    """What http.client takes for a socket."""

    def __init__(self, data):
        self.data = data

    def makefile(self, _):
        return io.BytesIO(self.data)


class Http2:
    """Any number of requests over one connection."""

    def __init__(self, port, tls=True):
        self.socket = socket.create_connection(("127.0.0.1", port))
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
            assert self.socket.selected_alpn_protocol() == "h2"
        self.socket.setblocking(False)
        # What is wrong on purpose must get out.
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(
            header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False))
        self.state.initiate_connection()
        self.streams, self.out, self.pongs, self.closed = {}, bytearray(), 0, False

    @property
    def requests(self):
        return self.streams.values()

    def open(self, one):
        stream = self.state.get_next_available_stream_id()
        head = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in one.head.items()]
        self.state.send_headers(stream, head, end_stream=not one.left)
        self.streams[stream] = one
        return one

    def ping(self):
        """What the server had sent when it answers this is seen then."""
        self.state.ping(b"12345678")

    def wants_to_write(self):
        return bool(self.out)

    def turn(self):
        self.write()
        try:
            while piece := self.socket.recv(1 << 18):
                for event in self.state.receive_data(piece):
                    self.see(event)
        except (BlockingIOError, ssl.SSLWantReadError):
            self.write()
            return
        except OSError:
            pass
        self.closed = True
        for one in self.requests:
            one.ended = True

    def see(self, event):
        one = self.streams.get(getattr(event, "stream_id", None))
        match event:
            case h2.events.ResponseReceived():
                one.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                one.status = int(one.headers[":status"])
            case h2.events.DataReceived():
                one.body += event.data
                self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                one.ended = one.whole = True
            case h2.events.StreamReset():
                one.ended = True
            case h2.events.PingAckReceived():
                self.pongs += 1

    def write(self):
        for stream, one in self.streams.items():
            while one.left and not one.ended:
                size = min(self.state.local_flow_control_window(stream), self.state.max_outbound_frame_size, len(one.left))
                if size == 0:
                    break
                piece, one.left = bytes(one.left[:size]), one.left[size:]
                self.state.send_data(stream, piece, end_stream=not one.left)
        self.out += self.state.data_to_send()
        try:
            while self.out:
                del self.out[:self.socket.send(self.out)]
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass


def turn(clients, done):
    """Turns the clients until what they wait for has come."""
    until = time.monotonic() + PATIENCE
    for client in clients:
        client.turn()
    while not done():
        assert time.monotonic() < until, [one for client in clients for one in client.requests if not one.ended]
        with selectors.DefaultSelector() as selector:
            for client in clients:
                if not client.closed:
                    wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.wants_to_write() else 0)
                    selector.register(client.socket, wanted, client)
            for key, _ in selector.select(0.05):
                key.data.turn()
