"""The part grpc: a server of gRPC's Python behind the gateway, called by gRPC's Python and by gRPC's Go."""
import concurrent.futures
import contextlib
import os
import threading

import grpc

from stage import BIN, HTTP, port, route, run, service

SERVER = port()


def manifests():
    yield from service("grpc", SERVER, "kubernetes.io/h2c")
    yield from route("grpc", "grpc", ["grpc.test"], "/closed")


class Waiters:
    """Calls that last until whoever called has gone, and who else asks for that moment."""

    def __init__(self):
        self.count, self.changed = 0, threading.Condition()

    @contextlib.contextmanager
    def one(self, context):
        gone = threading.Event()
        if not context.add_callback(gone.set):
            gone.set()
        with self.changed:
            self.count += 1
        try:
            yield gone
        finally:
            with self.changed:
                self.count -= 1
                self.changed.notify_all()

    def unary(self, message, context):
        with self.one(context) as gone:
            gone.wait()
        return message

    def stream(self, message, context):
        with self.one(context) as gone:
            yield message
            gone.wait()

    def none(self, message, context):
        with self.changed:
            if not self.changed.wait_for(lambda: self.count == 0, timeout=60):
                context.abort(grpc.StatusCode.ABORTED, f"{self.count} calls go on")
        return message


def both(messages, context):
    context.send_initial_metadata((("x-head", "begin"),))
    yield from messages
    context.set_trailing_metadata((("x-trail", "end"), ("x-trail-bin", b"\x00\xff")))


def fail(message, context):
    """The message is what the details are to be."""
    context.set_trailing_metadata((("x-trail", "end"), ("grpc-status-details-bin", message)))
    context.abort(grpc.StatusCode.NOT_FOUND, "nothing, 100 % nichts, für niemanden")


def serve():
    waiters = Waiters()
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(lambda message, _: message),
        "Many": grpc.unary_stream_rpc_method_handler(lambda message, _: (message for _ in range(1000))),
        "Last": grpc.stream_unary_rpc_method_handler(lambda messages, _: [*messages][-1]),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Late": grpc.unary_unary_rpc_method_handler(waiters.unary),
        "Wait": grpc.unary_stream_rpc_method_handler(waiters.stream),
        "None": grpc.unary_unary_rpc_method_handler(waiters.none),
    }
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(40))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("wire.Wire", methods)])
    server.add_insecure_port(f"127.0.0.1:{SERVER}")
    server.start()
    return server


def grpc_calls(_):
    """Calls, streams each way and both ways, trailers, deadlines."""
    server = serve()
    yield from of_python()
    said = run(BIN / "grpc-client", f"127.0.0.1:{HTTP}", "grpc.test")
    assert said.returncode == 0, f"Go: {said.stdout}{said.stderr}"
    yield from (f"Go: {line}" for line in said.stdout.splitlines())
    server.stop(0)


def of_python():
    raw = dict(request_serializer=None, response_deserializer=None)
    channel = grpc.insecure_channel(f"127.0.0.1:{HTTP}", [("grpc.default_authority", "grpc.test")])
    big = os.urandom(1 << 20)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert all(pool.map(lambda _: channel.unary_unary("/wire.Wire/Echo", **raw)(big) == big, range(100)))
    assert sum(1 for _ in channel.unary_stream("/wire.Wire/Many", **raw)(b"x")) == 1000
    assert list(channel.stream_stream("/wire.Wire/Both", **raw)(bytes([n]) for n in range(200))) == [bytes([n]) for n in range(200)]
    for method, code in (("Fail", grpc.StatusCode.NOT_FOUND), ("Late", grpc.StatusCode.DEADLINE_EXCEEDED)):
        try:
            channel.unary_unary(f"/wire.Wire/{method}", **raw)(b"x", timeout=1)
            raise AssertionError(method)
        except grpc.RpcError as error:
            assert error.code() == code, error
    channel.close()
    yield "Python: 100 calls of 1 MiB, 1000 messages down, 200 both ways, an error, a deadline"
