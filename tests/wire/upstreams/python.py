"""An upstream of many talents: the HTTP server of Python, which counts what it was asked, takes and gives long bodies, answers
slowly, and echoes what comes through a tunnel."""
import http.server
import socketserver
import sys
import time

targets = []
PIECE = b"x" * 65536


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("transfer-encoding"):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                while size:
                    size -= len(self.rfile.read(min(size, 65536)))
                self.rfile.readline()
                yield
            while self.rfile.readline() not in (b"\r\n", b"\n", b""):
                pass
            return
        left = int(self.headers.get("content-length") or 0)
        while left > 0:
            left -= len(self.rfile.read(min(left, 65536)))
            yield

    def answer(self):
        if self.path == "/seen":
            return self.plain("\n".join(targets).encode())
        if self.path == "/tunnel":
            return self.tunnel()
        for _ in self.body():
            pass
        targets.append(self.path)
        if self.path.startswith("/down/"):
            return self.down(int(self.path.rsplit("/", 1)[1]))
        if self.path == "/slow":
            time.sleep(2)
        self.plain(b"ok")

    do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = answer

    def plain(self, body):
        self.send_response(200)
        self.send_header("X-Upstream", "python")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def down(self, size):
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        while size > 0:
            self.wfile.write(PIECE[:size])
            size -= len(PIECE)

    def tunnel(self):
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        self.end_headers()
        while piece := self.connection.recv(65536):
            self.connection.sendall(piece)
        self.close_connection = True

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_):
        pass


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
