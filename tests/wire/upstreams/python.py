"""An upstream of many talents: the HTTP server of Python, which counts what it was asked, takes and gives long bodies, answers
slowly, and echoes what comes through a tunnel."""
import http.server
import posixpath
import socketserver
import sys
import time
import urllib.parse

targets = []
PIECE = b"x" * 65536


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    directory = "/"
    received = 0

    def body(self):
        if self.headers.get("transfer-encoding"):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                while size:
                    piece = self.piece(size)
                    size -= piece
                    yield piece
                self.rfile.readline()
            while self.rfile.readline() not in (b"\r\n", b"\n", b""):
                pass
            return
        left = int(self.headers.get("content-length") or 0)
        while left > 0:
            piece = self.piece(left)
            left -= piece
            yield piece

    def piece(self, left):
        size = len(self.rfile.read(min(left, 65536)))
        if not size:
            raise ConnectionError("the body breaks off")
        return size

    def answer(self):
        if self.path == "/seen":
            return self.plain("\n".join(targets).encode())
        if self.path == "/tunnel":
            return self.tunnel()
        self.received = sum(self.body())
        targets.append(self.path)
        for name, give in (("/down/", self.down), ("/chunked/", self.chunked), ("/close/", self.until_close)):
            if self.path.startswith(name):
                return give(int(self.path.rsplit("/", 1)[1]))
        if self.path == "/slow":
            time.sleep(2)
        self.plain(b"ok")

    do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = answer

    def resolved(self):
        """What the path is to http.server's files, and to handlers that read it as a URL, whose last parameters go."""
        files = http.server.SimpleHTTPRequestHandler.translate_path(self, self.path)
        return files, posixpath.normpath(urllib.parse.unquote(urllib.parse.urlparse(self.path).path) or "/")

    def plain(self, body):
        self.send_response(200)
        self.send_header("X-Upstream", "python")
        self.send_header("X-Received", str(self.received))
        self.send_header("X-Target", self.requestline.split()[1])
        self.send_header("X-Resolved", ", ".join(map(urllib.parse.quote, self.resolved())))
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

    def chunked(self, size):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while size > 0:
            piece = PIECE[:size]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            size -= len(piece)
        self.wfile.write(b"0\r\n\r\n")

    def until_close(self, size):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Connection", "close")
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
