#!/usr/bin/env python3
"""timing.py [REQUESTS]: whether the time of a refusal tells how much of a guess was right.

Two classes of guesses, alike but for where they differ from what is right, in random order over one connection: Welch's t of
their times, of all and of the quickest 99, 90 and 50 % (what disturbs a request makes it slower). Below 4.5 the classes cannot
be told apart, as dudect has it. POSTERN names the binary.
"""
import hashlib
import hmac
import json
import math
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time

import manifests
from manifests import b64

PORT, STATUS, LIMIT = 22000, 22001, 4.5
KEY = "k3y-" + "0123456789abcdef" * 3
SECRET = "a secret of at least thirty-two bytes"
ALPHABET = "GHIJKLMNOPQRSTUVWXYZ"  # none of it in the key


def token(flip, issuer="issuer"):
    """A token whose signature is wrong in one byte."""
    signed = b64(b'{"alg":"HS256","typ":"JWT"}') + "." + b64(json.dumps({"iss": issuer, "n": random.random()}).encode())
    signature = bytearray(hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha256))
    signature[flip] ^= random.randrange(1, 256)
    return signed + "." + b64(signature)


def key(at):
    guess = list(KEY)
    guess[at] = random.choice(ALPHABET)
    return "".join(guess)


def request(host, header, value):
    return f"GET / HTTP/1.1\r\nHost: {host}\r\n{header}: {value}\r\n\r\n".encode()


GUESSES = {
    "API key: its first byte wrong, its last": lambda late: request("key.test", "apikey", key(-1 if late else 0)),
    "HS256: the signature's first byte wrong, its last": lambda late: request(
        "jwt.test", "Authorization", "Bearer " + token(-1 if late else 0)),
}


# What may differ, and does: shows that this would see a difference.
CONTROL = ("control: an issuer that is not known, a signature that is wrong", lambda late: request(
    "jwt.test", "Authorization", "Bearer " + token(0, "issuer" if late else "nobody")))


def objects():
    own = "postern.dev/v1alpha1"
    yield from (o for o in manifests.base(manifests.http) if o["kind"] != "HTTPRoute")
    yield manifests.obj("v1", "Secret", "secrets", stringData={"key": KEY, "secret": SECRET})
    yield manifests.obj(own, "Consumer", "alice", {})
    for name, block, credential in (
            ("key", "keyAuth", {"secretRef": {"name": "secrets", "key": "key"}}),
            ("jwt", "jwt", {"key": "issuer", "algorithm": "HS256", "secretRef": {"name": "secrets", "key": "secret"}})):
        rule = {"backendRefs": [{"name": "up", "port": 80}]}
        yield manifests.obj(manifests.GATEWAY, "HTTPRoute", name,
                            {"parentRefs": [{"name": "gateway"}], "hostnames": [f"{name}.test"], "rules": [rule]})
        target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name}
        yield manifests.obj(own, "AuthPlugin", name, {"targetRefs": [target], block: {}})
        yield manifests.obj(own, "Credential", name, {"consumerRef": {"name": "alice"}, block: credential})


def answer(connection, sent):
    began = time.perf_counter_ns()
    connection.sendall(sent)
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    took = time.perf_counter_ns() - began
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    assert head.split(b" ")[1] in (b"401", b"403"), head
    return took


def welch(one, other):
    def of(values):
        mean = sum(values) / len(values)
        return mean, sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)
    (mean, variance), (mean_other, variance_other) = of(one), of(other)
    return (mean - mean_other) / math.sqrt(variance + variance_other)


def measure(guess, count):
    times = {False: [], True: []}
    with socket.create_connection(("127.0.0.1", PORT)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(1000):
            answer(connection, guess(random.random() < .5))
        for _ in range(count):
            late = random.random() < .5
            times[late].append(answer(connection, guess(late)))
    together = sorted(times[False] + times[True])
    found = []
    for quickest in (1, .99, .9, .5):
        limit = together[int((len(together) - 1) * quickest)]
        found.append(welch(*([t for t in times[late] if t <= limit] for late in (False, True))))
    return found


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        manifests.write(folder / "manifests", objects())
        with open(folder / "log", "wb") as log:
            gateway = subprocess.Popen(
                [os.environ["POSTERN"], "run", "--manifests", folder / "manifests", "--state-dir", folder / "state", "--store",
                 "memory:", "--workers", "1", "--access-log", "off", "--status-address", f"127.0.0.1:{STATUS}", "--bind",
                 "127.0.0.1"], stdout=log, stderr=log)
        try:
            while gateway.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", PORT)).close()
                    break
                except OSError:
                    time.sleep(.05)
            else:
                sys.exit((folder / "log").read_text())
            told = False
            print(f"t of {count} refusals, all and the quickest 99, 90 and 50 %; above {LIMIT} guesses can be told apart")
            for name, guess in GUESSES.items():
                found = measure(guess, count)
                told |= any(abs(t) > LIMIT for t in found)
                print(f"  {name}: " + "  ".join(f"{t:+.1f}" for t in found), flush=True)
            name, guess = CONTROL
            found = measure(guess, count)
            print(f"  {name}: " + "  ".join(f"{t:+.1f}" for t in found))
            if all(abs(t) <= LIMIT for t in found):
                sys.exit("too noisy a machine to say anything: the control was not seen either")
            sys.exit(told)
        finally:
            gateway.terminate()
            gateway.wait()


main()
