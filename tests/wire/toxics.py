"""The part toxics: upstreams behind toxiproxy, one listener and one host for each way to fail. While all of them hold their requests,
everybody else is served; when they let go, each request ends as it should."""
import dataclasses
import json
import pathlib
import subprocess

import clients
from stage import BIN, HTTP, HTTPS, ROOM, UPSTREAMS, call, memory, port, route, service, start, watch

# Longer than any run, in milliseconds: what waits for this waits until somebody lets go.
LONG = 10_000_000
KIB, MIB = 1 << 10, 1 << 20
# What the gateway may hold of each request and its answer; uploads are much longer.
EACH = 512 * KIB
COPIES = 10
API = port()


def toxic(kind, stream="downstream", toxicity=1.0, **attributes):
    return {"name": kind, "type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}


@dataclasses.dataclass
class Case:
    """What is asked through which toxics; what lets go (one to remove, one to change, or the whole listener); what the answer is then."""
    path: str
    toxics: list
    remove: str = None
    change: dict = None
    status: int = 200
    size: int = None
    upload: int = None
    number: int = dataclasses.field(default_factory=port)


# Toxiproxy resets only connections that began with this toxic; it does so when the next byte comes.
SILENT_RESET = toxic("reset_peer", toxicity=0.0, timeout=0)
RESET = toxic("reset_peer", timeout=0)
HELD_BACK = toxic("latency", "upstream", latency=LONG)
SLOW_CLOSE = toxic("slow_close", delay=LONG)
NARROW = toxic("bandwidth", rate=1)
WHOLE = {
    "latency": Case(f"/down/{100 * KIB}", [toxic("latency", latency=LONG)], "latency", size=100 * KIB),
    "slicer": Case(f"/down/{100 * KIB}", [toxic("slicer", average_size=64, delay=LONG * 1000)], "slicer", size=100 * KIB),
    "slow-close": Case(f"/close/{100 * KIB}", [SLOW_CLOSE], "slow_close", size=100 * KIB),
    "bandwidth": Case(f"/down/{4 * MIB}", [NARROW], "bandwidth", size=4 * MIB),
    "upload": Case("/up", [toxic("bandwidth", "upstream", rate=1)], "bandwidth", size=2, upload=32 * MIB),
}
CUT = {
    "limit": Case(f"/down/{100 * KIB}", [toxic("limit_data", bytes=5000), SLOW_CLOSE], "slow_close"),
    "limit-chunked": Case(f"/chunked/{100 * KIB}", [toxic("limit_data", bytes=5000), SLOW_CLOSE], "slow_close"),
    "reset": Case(f"/down/{4 * MIB}", [NARROW, SILENT_RESET], change=RESET),
    "reset-chunked": Case(f"/chunked/{4 * MIB}", [NARROW, SILENT_RESET], change=RESET),
    "reset-close": Case(f"/close/{4 * MIB}", [NARROW, SILENT_RESET], change=RESET),
}
FAILED = {
    "timeout": Case(f"/down/{100 * KIB}", [toxic("timeout", timeout=0)], "timeout", status=502),
    "reset-at-once": Case(f"/down/{100 * KIB}", [HELD_BACK, RESET], "latency", status=502),
    "limit-head": Case(f"/down/{100 * KIB}", [toxic("limit_data", bytes=20), SLOW_CLOSE], "slow_close", status=502),
    "down": Case(f"/down/{100 * KIB}", [toxic("latency", latency=LONG)], status=502),
}
CASES = WHOLE | CUT | FAILED


def manifests():
    for name, case in CASES.items():
        yield from service(f"toxic-{name}", case.number)
        yield from route(f"toxic-{name}", f"toxic-{name}", [host(name)], timeouts={"request": "10m"})
    yield from route("toxic-late", "toxic-latency", [host("late")], timeouts={"request": "1s"})


def host(name):
    return f"{name}.toxic.test"


def api(method, path, body=None):
    return call(method, f"http://127.0.0.1:{API}{path}", body)


def listen(name, case):
    api("POST", "/proxies", {"name": name, "listen": f"127.0.0.1:{case.number}", "upstream": f"127.0.0.1:{UPSTREAMS['python']}", "enabled": True})


def toxics(gateway):
    toxiproxy = start([BIN / "toxiproxy", "-port", API, "-host", "127.0.0.1"], f"http://127.0.0.1:{API}/version")
    try:
        for name, case in CASES.items():
            listen(name, case)
            for one in case.toxics:
                api("POST", f"/proxies/{name}/toxics", one)
        yield from Run(gateway.pid).parts()
    finally:
        toxiproxy.kill()


class Run:
    def __init__(self, gateway):
        self.gateway = gateway
        self.idle = watch(gateway)
        self.mixed = clients.Http2(HTTPS)
        self.clients = [self.mixed]
        self.pending = {name: [] for name in CASES}

    def parts(self):
        for name, case in CASES.items():
            self.pending[name] = self.ask(name, case)
        clients.turn(self.clients, self.all_held)
        yield f"{sum(map(len, self.pending.values()))} requests held by {len(CASES)} faults"
        yield from self.others()
        yield f"{self.beside()} streams of others on the connection of HTTP/2 that has held ones"
        yield from self.let_go()
        yield from self.afterwards()
        peak = memory(self.gateway, "VmHWM")
        assert peak < self.idle + ROOM + EACH * sum(map(len, self.pending.values())), f"{peak // MIB} MiB at the peak, {self.idle // MIB} idle"
        yield f"{peak // MIB} MiB at the peak, {self.idle // MIB} before"

    def ask(self, name, case, copies=COPIES):
        """Over as many connections of HTTP/1.1, and over the one of HTTP/2."""
        def one():
            return clients.request(host(name), case.path, None if case.upload is None else bytes(case.upload))
        own = [clients.Http1(HTTP, one()) for _ in range(copies)]
        self.clients += own
        return [client.one for client in own] + [self.mixed.open(one())]

    def all_held(self):
        """Each request has come as far as toxiproxy."""
        table = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        to = [int(line.split()[2].split(":")[1], 16) for line in table if line.split()[3] == "01"]
        return all(to.count(case.number) >= COPIES + 1 for case in CASES.values())

    def still_held(self, but=()):
        """What the gateway had sent when it answers the ping is seen before the answer."""
        pongs = self.mixed.pongs
        self.mixed.ping()
        clients.turn(self.clients, lambda: self.mixed.pongs > pongs or self.mixed.closed)
        assert not self.mixed.closed, "the connection of HTTP/2 has ended"
        ended = [one for name, held in self.pending.items() if name not in but for one in held if one.ended]
        assert not ended, f"ended before anything let go: {ended}"

    def others(self):
        for flags in ([f"https://127.0.0.1:{HTTPS}/"], ["--h1", f"https://127.0.0.1:{HTTPS}/"], ["--h1", f"http://127.0.0.1:{HTTP}/"]):
            load = subprocess.Popen(["h2load", "-n", "20000", "-c", "20", "-m", "10", *flags], stdout=subprocess.PIPE, text=True)
            try:
                clients.turn(self.clients, lambda: load.poll() is not None)
            finally:
                load.kill()
            said = load.stdout.read()
            assert "20000 2xx" in said and " 0 failed, 0 errored, 0 timeout" in said, said
            self.still_held()
            yield f"{flags}: 20000 of 20000 meanwhile"

    def beside(self):
        """Streams of other hosts on the connection that has held ones."""
        asked = []
        for number in range(1000):
            name, path, body = (("go.test", "/", None), ("python.test", "/down/100000", None), ("python.test", "/up", bytes(20_000)))[number % 3]
            asked.append(self.mixed.open(clients.request(name, path, body)))
            clients.turn(self.clients, lambda: sum(not one.ended for one in asked) < 50)
        clients.turn(self.clients, lambda: all(one.ended for one in asked))
        wrong = [one for one in asked if not one.whole or one.status != 200]
        assert not wrong, wrong
        assert all(len(one.body) == (2, 100_000, 2)[number % 3] for number, one in enumerate(asked))
        self.still_held()
        return len(asked)

    def let_go(self):
        over = set()
        for name, case in CASES.items():
            if case.remove:
                api("DELETE", f"/proxies/{name}/toxics/{case.remove}")
            elif case.change:
                api("POST", f"/proxies/{name}/toxics/{case.change['name']}", case.change)
            else:
                api("POST", f"/proxies/{name}", {"enabled": False})
            held = self.pending[name]
            clients.turn(self.clients, lambda: all(one.ended for one in held))
            for one in held:
                judge(name, case, one)
            over.add(name)
            # Each let go by itself: the others are where they were.
            self.still_held(over)
            ends = f"{case.status}, " + ("whole" if name in WHOLE else "cut off" if name in CUT else "the gateway's own")
            yield f"{name}: {len(held)} times {ends}"

    def afterwards(self):
        refused = self.ask("down", CASES["down"])
        clients.turn(self.clients, lambda: all(one.ended for one in refused))
        assert all(one.status == 502 and one.whole for one in refused), refused
        yield f"down, asked again: {len(refused)} times 502"
        api("POST", "/proxies/latency/toxics", toxic("latency", latency=LONG))
        late = self.ask("late", CASES["latency"])
        clients.turn(self.clients, lambda: all(one.ended for one in late))
        assert all(one.status == 504 and one.whole for one in late), late
        yield f"late: {len(late)} times 504"
        for name, case in CASES.items():
            # Toxiproxy waits for ever where it is to remove a toxic from a connection that is gone. Uploads have none left, and are not sent again.
            if not case.upload:
                api("DELETE", f"/proxies/{name}")
                listen(name, case)
        again = {name: self.ask(name, case) for name, case in CASES.items()}
        clients.turn(self.clients, lambda: all(one.ended for held in again.values() for one in held))
        wrong = [one for held in again.values() for one in held if not one.whole or one.status != 200]
        assert not wrong, wrong
        yield f"without toxics: {sum(map(len, again.values()))} times 200"


def judge(name, case, one):
    assert one.status == case.status, f"{name}: {one}"
    if name in FAILED:
        assert one.whole and "message" in json.loads(one.body), f"{name}: {one}"
    elif name in CUT:
        assert not one.whole, f"{name}: a piece is shown as the whole: {one}"
        assert 0 < len(one.body) < int(case.path.rsplit("/", 1)[1]), f"{name}: {one}"
    else:
        assert one.whole and len(one.body) == case.size, f"{name}: {one}"
        if case.upload:
            assert int(one.headers["x-received"]) == case.upload, f"{name}: {one.headers}"
        else:
            assert one.body == b"x" * case.size, f"{name}: other bytes"
