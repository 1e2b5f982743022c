"""The part paths: spellings of paths before servers of different make, which say what they take each for (X-Resolved, once for each of
the ways in which handlers of that make read a path) and what they were asked for (X-Target)."""
import collections
import concurrent.futures
import hashlib
import http.client
import re
import socket
import urllib.parse

import clients
from stage import HTTP, HTTPS, UPSTREAMS, obj, route

KEY = "wire-key"
HOST = "HOST"
BEFORE = [
    "/", "//", "///", "/./", "/.//", "/../", "/../../", "/.../", "/..../", "/%2e/", "/%2E/", "/%2e%2e/", "/%2E./", "/.%2e/", "/;/", "/;a=b/",
    "/.;/", "/.;a=b/", "/%3b/", "/.%3B/", "/%2f", "/%2F", "/%5c", "/%5C", "/\\", "\\", "", "%2f", "/%00/", "/%00", "/\0", "/\t", "/ ", "/\r", "/\x7f",
    "/%09", "/%0a/", "/%0d%0a/", "/%20", "/%7f", "/?/", "/#/", "/open?/../", "/open#/../", "/open%3f/../", "/open%23/../", "/open/../", "/open/..//",
    "/open//../", "/open/./../", "/open/%2e%2e/", "/open/%2E%2E/", "/open/.%2e/", "/open/%2e./", "/open/..;/", "/open/..;a=b/", "/open/..%3b/",
    "/open/..%3Ba/", "/open;a/../", "/open;/../", "/open/;/../", "/open/x;a=/../../", "/open%2f..%2f", "/open/..%2f", "/open/..%2F",
    "/open%2F%2e%2e%2F", "/open/..%5c", "/open/..%5C", "/open\\..\\", "/open/..\\", "/open%5c..%5c", "/open/..%252f", "/open/%252e%252e/",
    "/open/%252e%252e%252f", "/open/%25252e%25252e/", "/open/%c0%ae%c0%ae/", "/open/..%c0%af", "/%c0%af", "/open/%e0%80%ae%e0%80%ae/",
    "/open/..%e0%80%af", "/open/%f0%80%80%ae%f0%80%80%ae/", "/open/..%c1%9c", "/open/..%ef%bc%8f", "/open/%ef%bc%8e%ef%bc%8e/", "/open/..%e2%81%84",
    "/open/\xc0\xae\xc0\xae/", "/open/..\xc0\xaf", "/open/..\xef\xbc\x8f", "/open/..%00/", "/open/..%00", "/open/%00../", "/open/..%0d/", "/open/..%09/",
    "/open/..\t/", "/open/.\t./", "/open/..%20/", "/open/.. /", "/open/..%u002f", "/open/%u002e%u002e/", "/open/%%32%65%%32%65/", "/open/..%25%32%66",
    "/open/..%2", "/open/..%", "/open/..%2g", "/open/..%-2f", "/open/%2/../", "/open/*/../../", "/~/../", "/open/%7e/../../", "/|/../", "/open/\"/../../",
    "/open/..?/../", "/open/..#/../", "/a/b/c/../../../", "/a/b/c/%2e%2e/../%2E%2e/", "/a/.b/../../", "/a/b./../../", "/a/..b/../../", "/a/.%2fb/", "*", "*/",
    f"//{HOST}/", f"http://{HOST}/", f"http://{HOST}//", f"HTTP://{HOST}/", f"https://{HOST}/", f"http://{HOST}/open/../", f"http://{HOST}/open/%2e%2e/",
    f"http://{HOST}/open/..%2f", f"http://{HOST}:80/", f"http://{HOST}\\", f"http://{HOST}/\\", f"http://{HOST}?/../", f"http://{HOST}#/../",
    f"http://{HOST}%2f", f"http://other@{HOST}/", f"http:/{HOST}/", f"http:///", "http:", "file:///", f"/http://{HOST}/../../",
]
WORDS = [
    "protected", "%70rotected", "protecte%64", "%50rotected", "pro%74ec%74ed", "%70%72%6f%74%65%63%74%65%64", "PROTECTED", "Protected", "protecteD",
    "%2570rotected", "%25%37%30rotected", "%%370rotected", "%u0070rotected", "%c1%b0rotected", "%e0%81%b0rotected", "%ef%bd%90rotected",
    "\xef\xbd\x90rotected", "protected;", "protected;a=b", "protected;a;b", ";protected", "protected%3b", "protected%3Ba=b", "protected%00", "protected%20",
    "protected.", "protected..", "protected%2e", ".protected", "prot\tected", "prot%09ected", "prot%00ected", "prot%0aected", "protected%c0%80",
    "protected%5c", "protected\\", "protected%2f", "protected%2F", "protected%7e", "protected~", "protected*", "protected,", "protected:", "protected@",
    "protected=", "protected&", "protected!", "protected$", "protected'", "protected(", "protected+", "protected|", "protected^", "protected\"", "protected<",
    "protected{}", "protected[]", "protected`", "protected%25", "protected%", "protected%2", "protecte", "protectedx", "open/protected", "open",
]
AFTER = [
    "", "/", "//", "///", "/x", "//x", "/.", "/./", "/..", "/../", "/../protected", "/../open", "/../open/../protected", "/x/..", "/x/../", "/x/../..",
    "/x/../../open", "/%2e", "/%2e%2e", "/%2e%2e/protected", "/.%2E/open", "/..;/open", "/..;a=b", "/..%3b/open", "/;/..", "/;", "/;a=b/x", "/x;a=b", "/x;",
    ";/x", ";a=b/x", ";/../open", "%3b/x", "?", "?x", "?/../open", "?a=/../../protected", "?%2e%2e%2f", "?a=b#c", "?a=\\", "?|", "#", "#x", "#/../open",
    "%23x", "%3fx", "%2fx", "%2F", "%2f..%2fopen", "/..%2fopen", "/..%5copen", "%5cx", "%5C", "\\x", "/\\", "\\..\\open", "/%00", "%00", "%00/x", "%00.html",
    "\0", "\t", "/\t", "\t/x", " ", "/ x", "\r", "%20", "%09", "%0a", "/%0d%0a", ".json", "/.json", "..", "/...", "/....", "%2e%2e/x", "/%252e%252e/open",
    "%252f", "%252fx", "/%c0%ae%c0%ae/open", "/..%c0%af", "%c0%afx", "/%ef%bc%8f", "\xc0\xaf", "/%ff", "/%ff%fe/", "/\xff", "/x|y", "/x\"y", "/[x]", "/x%7Cy",
    "/x%7cy", "/~x", "/%7Ex", "/%41", "/%zz", "/%", "/%u0041", "/x=y&z", "/a//b///c", "/a/./b/../c", "/a//../b",
]
PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
AS_IT_IS = PLAIN + b"/!$&'()*+,;=:@"


def manifests():
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    yield obj("postern.dev/v1alpha1", "Consumer", "wire", spec={"username": "wire"})
    yield obj("postern.dev/v1alpha1", "Credential", "wire", spec={"consumerRef": {"name": "wire"}, "keyAuth": {"hash": f"sha256:{digest}"}})
    for name in UPSTREAMS:
        yield from route(f"paths-{name}", name, [f"{name}.paths.test"], "/protected")


def spellings():
    """All pairs of a beginning, a word and an end."""
    made = {before + word for before in BEFORE for word in WORDS} | {before + "protected" + after for before in BEFORE for after in AFTER}
    return sorted(made | {"/" + word + after for word in WORDS for after in AFTER})


def paths(_):
    """Nobody without a key is answered from below /protected, whatever the server takes the path for; what is forwarded is what was asked."""
    all_targets = spellings()
    for name in UPSTREAMS:
        host = f"{name}.paths.test"
        # Behind HTTP/2 everything is the same but the parser: a quarter of them is enough.
        for version, ask, some in (("HTTP/1.1", over_http1, all_targets), ("HTTP/2", over_http2, all_targets[::4])):
            targets = [target.replace(HOST, host) for target in some]
            answers = ask(host, targets, {})
            closed = [target for target, answer in zip(targets, answers) if answer.status == 401]
            with_key = dict(zip(closed, ask(host, closed, {"apikey": KEY})))
            wrong = [f"{target!r}: {problem}" for target, answer in zip(targets, answers)
                     for problem in judge(answer, with_key.get(target), meaning(target, host, version))]
            assert not wrong, "\n".join([f"{name}, {version}: {len(wrong)} spellings", *wrong[:20]])
            counts = collections.Counter(answer.status for answer in answers)
            assert min(counts[status] for status in (200, 400, 401)) > 500, counts
            yield f"{name}, {version}: {len(targets)} spellings, {counts[200]} answered, {counts[401]} with a key only, {counts[400]} refused"


def judge(answer, with_key, wanted):
    resolved = answer.headers.get("x-resolved", "").split(", ")
    if any(map(protected, resolved)):
        yield f"open, and resolved to {resolved}"
    path = (wanted or b"").partition(b"?")[0].decode()
    expected = 400 if wanted is None else 401 if protected(path) else 200
    if answer.status != expected:
        yield f"{answer.status} instead of {expected}"
    elif expected != 400:
        got = with_key or answer
        if got.headers.get("x-target") != wanted.decode():
            yield f"{got.status}, forwarded as {got.headers.get('x-target')} instead of {wanted.decode()}"


def protected(path):
    return path == "/protected" or path.startswith("/protected/")


def meaning(target, host, version):
    """What docs/http.md says of a target: what is to be forwarded, or None where it is to be refused."""
    target = target.encode("latin-1")
    if version == "HTTP/1.1":
        found = re.fullmatch(rb"https?://([^/?]*)(.*)", target, re.DOTALL | re.IGNORECASE)
        if found:
            if found[1].removesuffix(b":80") != host.encode():
                return None
            target = found[2] if found[2].startswith(b"/") else b"/" + found[2]
    elif text(target.decode("latin-1")):
        # The parser of HTTP/2 cuts this off before the gateway can see it.
        target = target.partition(b"#")[0]
    path, mark, query = target.partition(b"?")
    if not path.startswith(b"/") or re.search(rb"[#<>\x00-\x20\x7f-\xff]", target):
        return None
    # What no browser sends raw there.
    if b"`" in path or b'"' in query:
        return None
    if b"\\" in path or re.search(rb"%(?![0-9a-f]{2})|%(5c|2f|[01][0-9a-f]|7f)", path, re.IGNORECASE):
        return None
    path = re.sub(rb"%(..)", escape, path)
    path = b"".join(bytes([byte]) if byte in AS_IT_IS + b"%" else b"%%%02X" % byte for byte in path)
    segments, last = [], b""
    for segment in path.split(b"/")[1:]:
        last = segment
        if re.fullmatch(rb"\.\.?(;|%3B).*", segment):
            return None
        if segment == b"..":
            segments = segments[:-1]
        elif segment not in (b"", b"."):
            segments.append(segment)
    form = b"/" + b"/".join(segments)
    if last in (b"", b".", b"..") and segments:
        form += b"/"
    # Some servers drop parameters: what is protected without them must be with them.
    bare = b"/" + b"/".join(part for part in (re.split(rb";|%3B", segment)[0] for segment in segments) if part)
    if protected(bare.decode()) and not protected(form.decode()):
        return None
    return form + mark + query


def escape(found):
    byte = bytes.fromhex(found[1].decode())
    return byte if byte in PLAIN else b"%" + found[1].upper()


def over_http1(host, targets, more):
    head = "".join(f"{name}: {value}\r\n" for name, value in more.items())

    def ask(target):
        with socket.create_connection(("127.0.0.1", HTTP), timeout=60) as client:
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{head}\r\n".encode("latin-1"))
            got = b""
            while piece := client.recv(65536):
                got += piece
        answer = http.client.HTTPResponse(clients.Bytes(got))
        answer.begin()
        one = clients.Request({})
        one.status, one.headers = answer.status, {}
        for name, value in answer.getheaders():
            name = name.lower()
            one.headers[name] = f"{one.headers[name]}, {value}" if name in one.headers else value
        assert got.count(b"HTTP/1.1 ") == 1, f"{target!r} has more than one answer"
        return one
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(ask, targets))


def over_http2(host, targets, more):
    # What is no UTF-8 is no header to the gateway, and the end of its connection: each of these has one of its own.
    groups = [[target] for target in targets if not text(target)]
    fit = [target for target in targets if text(target)]
    groups += [fit[begin:begin + 50] for begin in range(0, len(fit), 50)]
    answers = {}
    for group in groups:
        client = clients.Http2(HTTPS)
        these = {target: client.open(clients.request(host, target, **more)) for target in group}
        clients.turn([client], lambda: all(one.ended for one in these.values()))
        assert client.closed is not all(map(text, group)), f"{group}: the connection is closed: {client.closed}"
        client.socket.close()
        answers |= these
    for one in answers.values():
        # A request that breaks the rules of HTTP/2 has no answer but the end of its stream.
        one.status = one.status or 400
    return [answers[target] for target in targets]


def text(target):
    try:
        return bool(target.encode("latin-1").decode() or True)
    except UnicodeDecodeError:
        return False
