"""What run.sh says. Each part prints a line; the first that fails ends the run."""
import base64
import concurrent.futures
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request

import calls
import paths
import toxics
from stage import BIN, HERE, HTTP, HTTPS, ROOM, STATUS, UPSTREAMS, memory, obj, route, run, service, start, watch

GIB = 1 << 30


def manifests(folder):
    pem, key = folder / "crt.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9", "-subj",
                    "/CN=localhost", "-keyout", key, "-out", pem], check=True, stderr=subprocess.DEVNULL)
    data = {name: base64.b64encode(file.read_bytes()).decode() for name, file in (("tls.crt", pem), ("tls.key", key))}
    listeners = [{"name": "http", "port": HTTP, "protocol": "HTTP"},
                 {"name": "https", "port": HTTPS, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "cert"}]}}]
    yield obj("gateway.networking.k8s.io/v1", "Gateway", "gateway", spec={"gatewayClassName": "postern", "listeners": listeners})
    yield obj("v1", "Secret", "cert", type="kubernetes.io/tls", data=data)
    for name, number in UPSTREAMS.items():
        yield from service(name, number)
        # Whoever names no host is for the quickest of them.
        yield from route(name, name, [] if name == "go" else [f"{name}.test"], "/hidden")
    for part in (calls, paths, toxics):
        yield from part.manifests()


def h2spec(_):
    """Streams must not be over before h2spec has done to them what it wants: the upstream takes its time."""
    for name, flags in (("TLS", ["-p", HTTPS, "-t", "-k"]), ("h2c", ["-p", HTTP])):
        said = run(BIN / "h2spec", "-h", "127.0.0.1", "--path", "/slow", "--timeout", "5", *flags).stdout
        total, passed = map(int, re.search(r"(\d+) tests, (\d+) passed", said).groups())
        failed = re.findall(r"×.*", said)
        # On a port without TLS whatever is no preface of HTTP/2 is taken for HTTP/1.1, and answered so.
        expected = [] if name == "TLS" else ["Sends invalid connection preface"]
        failed = sorted({line.split(": ", 1)[1] for line in failed})
        assert total == 145 and passed == total - len(failed) and failed == expected, f"{name}: {failed}"
        yield f"{name}: {passed} of {total} {failed or ''}"


def load(_):
    for flags in ([f"https://127.0.0.1:{HTTPS}/"], ["--h1", f"https://127.0.0.1:{HTTPS}/"], [f"http://127.0.0.1:{HTTP}/"]):
        said = run("h2load", "-n", "20000", "-c", "20", "-m", "10", *flags).stdout
        assert "20000 2xx" in said, said
        yield f"{flags}: 20000 of 20000"


def bodies(gateway):
    idle = watch(gateway.pid)
    url = f"http://127.0.0.1:{HTTP}"
    curl = ["curl", "--silent", "--fail", "--header", "Host: python.test"]
    down = subprocess.run(f"{' '.join(curl[:-1])} 'Host: python.test' {url}/down/{GIB} | wc -c", shell=True, capture_output=True, text=True)
    assert int(down.stdout) == GIB, down
    up = subprocess.run(f"head -c {GIB} /dev/zero | {' '.join(curl[:-1])} 'Host: python.test' -T - {url}/up", shell=True, capture_output=True)
    assert up.stdout == b"ok", up
    peak = memory(gateway.pid, "VmHWM")
    assert peak < idle + ROOM, f"{peak >> 20} MiB at the peak, {idle >> 20} idle"
    yield f"1 GiB down and up: {peak >> 20} MiB at the peak, {idle >> 20} before"


def slow(_):
    """Clients that dawdle over a head, a body or an answer, and an upstream that does, hold up nobody else."""
    dawdlers = []
    for number in range(300):
        client = socket.create_connection(("127.0.0.1", HTTP))
        head = "GET /down/50000000 HTTP/1.1\r\nHost: python.test\r\n"
        if number % 3 == 1:
            head = "POST /up HTTP/1.1\r\nHost: python.test\r\nContent-Length: 1000\r\n\r\nx"
        elif number % 3 == 2:
            head += "\r\n"
        client.sendall(head.encode())
        dawdlers.append(client)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(run, "curl", "-s", "-H", "Host: python.test", f"http://127.0.0.1:{HTTP}/slow") for _ in range(20)]
        said = run("h2load", "-n", "5000", "-c", "10", "-m", "10", f"https://127.0.0.1:{HTTPS}/").stdout
        assert "5000 2xx" in said, said
        assert all(one.result().stdout == "ok" for one in waiting)
    for client in dawdlers:
        client.close()
    yield "300 slow clients and 20 slow answers: 5000 of 5000 others, and the 20"


def tunnels(_):
    """WebSocket: bytes come back as they were sent, in 50 tunnels at once."""
    def one(number):
        client = socket.create_connection(("127.0.0.1", HTTP), timeout=30)
        client.sendall(b"GET /tunnel HTTP/1.1\r\nHost: python.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                       b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        assert head.startswith(b"HTTP/1.1 101"), head
        for size in (1, 125, 65536, 200_000) * 10:
            sent = os.urandom(size)
            writer = threading.Thread(target=client.sendall, args=(sent,))
            writer.start()
            got = b""
            while len(got) < size:
                piece = client.recv(65536)
                assert piece, "the tunnel ended"
                got += piece
            writer.join()
            assert got == sent, number
        client.close()
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        list(pool.map(one, range(50)))
    yield "50 tunnels, 2000 messages, up to 200 kB"


def framings(_):
    """As many requests come to servers of different make as they answer, and none to a place that asks for a key."""
    heads = json.loads((HERE.parent / "vectors/smuggler_te_mutations.json").read_text())
    body = "0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: HOST\r\nX-A: "
    after = "GET /after HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"
    for name, number in UPSTREAMS.items():
        def seen():
            text = urllib.request.urlopen(f"http://127.0.0.1:{number}/seen").read().decode()
            return [line for line in text.split("\n") if line]
        before, answered, host = len(seen()), 0, f"{name}.test"
        for one in heads:
            head = one["head"]
            for place, value in (("__METHOD__", "POST"), ("__ENDPOINT__", "/open"), ("__RANDOM__", "1"), ("__HOST__", host),
                                 ("__REPLACE_CL__", str(len(body) - 4 + len(host)))):
                head = head.replace(place, value)
            sent = head.encode("latin-1", "replace") + b"\r\n" + (body + after).replace("HOST", host).encode()
            with socket.create_connection(("127.0.0.1", HTTP), timeout=30) as client:
                got = b""
                try:
                    client.sendall(sent)
                    while piece := client.recv(65536):
                        got += piece
                except ConnectionError:
                    pass
            answered += got.lower().count(f"x-upstream: {name}".encode())
        new = seen()[before:]
        assert len(new) == answered, f"{name}: {len(new)} requests, {answered} answers"
        assert not [target for target in new if target.startswith("/hidden")], name
        yield f"{name}: {len(heads)} spellings, {answered} requests in and out, none hidden"


PARTS = {"h2spec": h2spec, "load": load, "bodies": bodies, "slow": slow, "tunnels": tunnels, "grpc": calls.grpc_calls,
         "framings": framings, "paths": paths.paths, "toxics": toxics.toxics}


def main():
    wanted = sys.argv[1:] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        raise SystemExit(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "manifests").mkdir()
        text = "\n---\n".join(json.dumps(one) for one in manifests(folder))
        (folder / "manifests/all.yaml").write_text(text)
        processes = []
        try:
            commands = {"go": [BIN / "go-upstream"], "node": ["node", HERE / "upstreams/node.mjs"],
                        "python": [sys.executable, HERE / "upstreams/python.py"]}
            for name, number in UPSTREAMS.items():
                processes.append(start([*commands[name], number], f"http://127.0.0.1:{number}/seen"))
            gateway = start([os.environ["POSTERN"], "run", "--manifests", folder / "manifests", "--state-dir", folder / "state", "--store",
                             "memory:", "--bind", "127.0.0.1", "--access-log", "off", "--admin-address", "off", "--status-address",
                             f"127.0.0.1:{STATUS}"], f"http://127.0.0.1:{STATUS}/readyz")
            processes.append(gateway)
            for name in wanted:
                for line in PARTS[name](gateway):
                    print(f"{name}: {line}", flush=True)
            assert gateway.poll() is None, "the gateway has ended"
        finally:
            for process in processes:
                process.kill()


main()
