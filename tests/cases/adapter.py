"""Turns the neutral objects of the cases into manifests (one YAML file per case in one folder), runs
`postern run --manifests FOLDER` and keeps the folder up to date.

  POSTERN            the binary (default: `postern` on PATH)
  POSTERN_FLAGS      further flags of `postern run`; a flag given here replaces the adapter's own
  POSTERN_STORE      its --store (default memory:)
  POSTERN_RUNNING    set: start nothing; a `postern run` that watches POSTERN_MANIFESTS runs already
  POSTERN_MANIFESTS  the folder (default: `manifests` in the work folder)
  POSTERN_WORK       work folder: log, state, certificate (default: a new temporary one)

Dry run:  python3 adapter.py --dump DIR --cases FILE... [--https-base URL]
"""
import argparse
import atexit
import base64
import copy
import hashlib
import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
from pathlib import Path

import yaml

READYZ = "http://127.0.0.1:8100/readyz"
TIMEOUT = 60        # seconds until a change must be live
KINDS = ("services", "routes", "plugins", "consumers", "credentials")
BLOCK = {"key-auth": "keyAuth", "jwt": "jwt", "oauth2": "oauth2", "openid-connect": "openidConnect",
         "upstream-oauth": "upstreamOauth"}

# Field names are the camelCase of the case's except these (by dotted path in the case's config).
SECRETS = {"oauth2": {"provision_key": "provisionKeySecretRef"},
           "openid-connect": {"client_secret": "clientSecretRef", "session.secret": "secretRef",
                              "client_rsa_private_key": "clientRsaPrivateKeyRef"},
           "upstream-oauth": {"oauth.client_secret": "clientSecretRef", "oauth.password": "passwordSecretRef"}}
RENAMED = {("upstream-oauth", "client.timeout"): "timeoutMs",
           ("upstream-oauth", "cache.eagerly_expire"): "eagerlyExpireSeconds",
           ("upstream-oauth", "cache.default_ttl"): "defaultTtlSeconds"}
FREE_MAPS = {"authorization_params", "token_headers", "token_post_args", "claim_schema"}    # keys are the user's own

# The cases are written against the defaults of the gateways that Postern imports from. Where its own differ on purpose,
# the manifests say theirs.
# (acceptUnsupportedAlg is not among them: the cases that need it say so, the rest accept the safe default.)
DEFAULTS = {"jwt": {"invalidTokenStatus": 401},
            "openid-connect": {"realm": "apisix", "sslVerify": False, "usePkce": False, "useNonce": False}}
ASYMMETRIC = re.compile(r"(RS|PS|ES)(256|384|512)|EdDSA")

BASE, ECHO, TLS_PORT = "http://127.0.0.1:8000", "http://127.0.0.1:9801", None
STATE = {k: {} for k in KINDS}      # what the folder should say now
PROC = WORK = FOLDER = None
CHECK_WORKS = False


# ---- what the runner calls ------------------------------------------------------------------
def configure(base, echo, idp, https_base=None):
    global BASE, ECHO, TLS_PORT
    BASE, ECHO = base, "http://127.0.0.1:%d" % echo
    TLS_PORT = urllib.parse.urlsplit(https_base).port or 443 if https_base else None


def rewrite_case(case):
    """The default redirect path has Postern's name in it."""
    def sub(v):
        if isinstance(v, str):
            return v.replace("/.apisix/redirect", "/.postern/redirect")
        if isinstance(v, list):
            return [sub(x) for x in v]
        return {k: sub(x) for k, x in v.items()} if isinstance(v, dict) else v
    return {**case, "steps": sub(case["steps"])} if "steps" in case else case


def apply(objects):
    global FOLDER
    FOLDER = Path(os.environ.get("POSTERN_MANIFESTS") or work() / "manifests").resolve()
    put(STATE, objects)
    publish()
    if not os.environ.get("POSTERN_RUNNING"):
        start()
    return {"consumers": {c["username"]: consumer_id(c) for c in STATE["consumers"].values()}}


def update(apply=None, delete=None):
    change(apply, delete)
    publish()
    wait_programmed()


def change(apply=None, delete=None):
    put(STATE, apply or {})
    if delete:
        for kind in ("plugins", "credentials"):
            for o in delete[kind]:
                STATE[kind].pop(ident(kind, o), None)
        # A consumer goes only if it is named without credentials; then its credentials go too.
        for user in {c["username"] for c in delete["consumers"]} - {c["consumer"] for c in delete["credentials"]}:
            STATE["consumers"].pop(user, None)
            for k in [k for k in STATE["credentials"] if k[1] == user]:
                del STATE["credentials"][k]


def wait_programmed():
    """Live means: /readyz is 200 and names the digest of what is in the folder."""
    want, end = digest(FOLDER), time.time() + TIMEOUT
    while True:
        if PROC and PROC.poll() is not None:
            raise RuntimeError("postern ended with %s; log %s:\n%s" % (PROC.returncode, log_file(), log_tail()))
        ready, _, text = get(READYZ)
        if ready == 200 and json.loads(text).get("manifests") == want:
            return
        if time.time() > end:
            raise RuntimeError("not live after %d s: %s says %s %r, but the folder's digest is %s; log %s" % (
                TIMEOUT, READYZ, ready, text[:500], want, log_file()))
        time.sleep(0.02)


def digest(folder):
    """sha256 over the sorted lines that sha256sum prints for the folder's files, with relative names."""
    lines = sorted("%s  %s\n" % (hashlib.sha256(f.read_bytes()).hexdigest(), f.relative_to(folder))
                   for f in folder.rglob("*") if f.suffix in (".yaml", ".yml", ".json") and not f.name.startswith("."))
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def try_apply(objects):
    global CHECK_WORKS
    if not CHECK_WORKS:     # a `check` that refuses everything must not pass the cases that want a refusal
        ok, text = check({})
        if not ok:
            raise RuntimeError("`postern check` refuses a folder with nothing but a Gateway: " + text)
        CHECK_WORKS = True
    return check(objects)


def check(objects):
    state = {k: {} for k in KINDS}
    put(state, objects)
    with tempfile.TemporaryDirectory(prefix="check-", dir=work()) as d:
        write(Path(d), files(state))
        p = subprocess.run([binary(), "check", *sorted(str(f) for f in Path(d).iterdir())], timeout=60,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if p.returncode < 0 or p.returncode == 101:     # killed or panicked: not a verdict
        raise RuntimeError("postern check crashed (%d): %s" % (p.returncode, p.stdout))
    return p.returncode == 0, p.stdout


# ---- the process ----------------------------------------------------------------------------
def binary():
    return os.environ.get("POSTERN") or "postern"


def work():
    global WORK
    if WORK is None:
        WORK = Path(os.environ.get("POSTERN_WORK") or tempfile.mkdtemp(prefix="postern-cases-")).resolve()
        WORK.mkdir(parents=True, exist_ok=True)
    return WORK


def log_file():
    return work() / "postern.log"


def log_tail():
    return log_file().read_text(errors="replace")[-3000:] if log_file().exists() else ""


def start():
    global PROC
    if get(READYZ)[0] is not None:
        raise RuntimeError("something answers on %s already; stop it or set POSTERN_RUNNING" % READYZ)
    extra = shlex.split(os.environ.get("POSTERN_FLAGS", ""))
    given = {f.split("=")[0] for f in extra}
    cmd = [binary(), "run", "--manifests", str(FOLDER)]
    for flag, value in (("--store", os.environ.get("POSTERN_STORE") or "memory:"),
                        ("--state-dir", tempfile.mkdtemp(prefix="state-", dir=work())),
                        ("--trusted-proxies", "127.0.0.0/8")):
        cmd += [flag, value] if flag not in given else []
    with open(log_file(), "ab") as log:
        PROC = subprocess.Popen(cmd + extra, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    atexit.register(stop)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # so that stop() runs then, too
    print("postern: pid %d, log %s" % (PROC.pid, log_file()), file=sys.stderr)


def stop():
    if PROC.poll() is None:
        PROC.terminate()
        try:
            PROC.wait(15)
        except subprocess.TimeoutExpired:
            PROC.kill()
            PROC.wait()


def get(url, host=None):
    """(status, headers, text), or (None, {}, reason) where nobody answers."""
    u = urllib.parse.urlsplit(url)
    c = http.client.HTTPConnection(u.hostname, u.port, timeout=5)
    try:
        c.request("GET", u.path or "/", headers={"Host": host} if host else {})
        r = c.getresponse()
        return r.status, r.headers, r.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as e:
        return None, {}, repr(e)
    finally:
        c.close()


# ---- objects --------------------------------------------------------------------------------
def ident(kind, o):
    """What an update finds an object again by."""
    if kind == "plugins":
        return o.get("route"), o.get("service"), o["name"]
    if kind == "credentials":
        return o["type"], o["consumer"], o.get("key") or o.get("client_id") or o["label"]
    return o["username"] if kind == "consumers" else o["name"]


def put(state, objects):
    for kind in KINDS:
        for o in objects.get(kind, []):
            if kind == "consumers":         # an update that leaves out the id does not change it
                o = {**o, "id": o.get("id") or state[kind].get(ident(kind, o), {}).get("id")}
            state[kind][ident(kind, o)] = o


def kname(s, limit=253):
    """A Kubernetes name; a changed or shortened one carries a digest of the original."""
    n = re.sub(r"[^a-z0-9-]+", "-", str(s).lower()).strip("-")
    if n != s or len(n) > limit:
        n = (n[:limit - 9].strip("-") + "-" + hashlib.sha256(str(s).encode()).hexdigest()[:8]).lstrip("-")
    return n


def svc_name(s):
    return kname(s, 63)


def consumer_id(c):
    name = "postern.dev/consumers/default/" + kname(c["username"])
    return c.get("id") or str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def obj(api, kind, name, spec=None, **top):
    o = {"apiVersion": api, "kind": kind, "metadata": {"name": name}}
    return {**o, **top} if spec is None else {**o, "spec": spec}


def postern(kind, name, spec):
    return obj("postern.dev/v1alpha1", kind, name, spec)


def secret(name, data, type="Opaque"):
    return obj("v1", "Secret", name, type=type, stringData=data)


# ---- translation ----------------------------------------------------------------------------
def service(s):
    u = urllib.parse.urlsplit(s["url"])
    return [obj("v1", "Service", svc_name(s["name"]), {
        "type": "ExternalName", "externalName": u.hostname, "ports": [{"name": "http", "port": u.port or 80}]})]


def route(r, services):
    u = urllib.parse.urlsplit(services[r["service"]]["url"])
    return [obj("gateway.networking.k8s.io/v1", "HTTPRoute", kname(r["name"]), {
        "parentRefs": [{"name": "gateway"}],        # every listener of it
        "hostnames": r["hosts"],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": p}} for p in r["paths"]],
                   "backendRefs": [{"name": svc_name(r["service"]), "port": u.port or 80}]}]})]


def consumer(c):
    spec = {"username": c["username"], "id": consumer_id(c)}
    if c.get("custom_id") is not None:
        spec["customId"] = c["custom_id"]
    return [postern("Consumer", kname(c["username"]), spec)]


def credential(c):
    kind, user = c["type"], kname(c["consumer"])
    name = kname("%s-%s-%s" % (user, kind, hashlib.sha256(str(ident("credentials", c)[2]).encode()).hexdigest()[:8]))
    data = {}

    def ref(value, key):
        data[key] = str(value)
        return {"name": name, "key": key}

    if kind == "key-auth":
        body = {"secretRef": ref(c["key"], "key")} if "key" in c else {}
    elif kind == "jwt":
        body = {k: c[k] for k in ("key", "algorithm") if k in c}
        if "rsa_public_key" in c:
            body["publicKey"] = c["rsa_public_key"]
        # A case may have an unused secret beside a public key; Postern has a secret for HS* only.
        if "secret" in c and not ASYMMETRIC.fullmatch(c.get("algorithm") or "HS256"):
            body["secretRef"] = ref(c["secret"], "secret")
    else:       # hash_secret has no counterpart: Postern never keeps more than a digest
        body = {camel(k): c[k] for k in ("name", "client_id", "client_type", "redirect_uris") if k in c}
        if "client_secret" in c:
            body["clientSecretRef"] = ref(c["client_secret"], "clientSecret")
    spec = {"consumerRef": {"name": user}, **({"ttl": c["ttl"]} if "ttl" in c else {}), BLOCK[kind]: body}
    return [postern("Credential", name, spec)] + ([secret(name, data)] if data else [])


def plugin(p, consumers):
    kind, cfg = p["name"], copy.deepcopy(p["config"])
    if "route" in p:
        name = kname("%s-%s" % (p["route"], kind))
        target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": kname(p["route"])}
    else:
        name = kname("%s-service-%s" % (p["service"], kind))
        target = {"group": "", "kind": "Service", "name": svc_name(p["service"])}
    data = {}

    def walk(cfg, path):
        out = {}
        for k, v in cfg.items():
            at = path + k
            if at in SECRETS.get(kind, {}):
                key = at.replace("_", "-")
                data[key] = str(v)
                out[SECRETS[kind][at]] = {"name": name, "key": key}
            elif at == "anonymous":         # the case's consumer id or username; Postern's Consumer name
                out[k] = {"name": kname(next((c["username"] for c in consumers if c.get("id") == v), v))}
            elif at == "cache.redis":
                out[k] = {"url": redis_url(v)}
            elif isinstance(v, dict) and k not in FREE_MAPS:
                out[camel(k)] = walk(v, at + ".")
            else:
                out[RENAMED.get((kind, at), camel(k))] = v
        return out

    if kind == "upstream-oauth":
        proxy_userinfo(cfg.get("client", {}))
    spec = {"targetRefs": [target], BLOCK[kind]: {**DEFAULTS.get(kind, {}), **walk(cfg, "")}}
    return [postern("AuthPlugin", name, spec)] + ([secret(name, data)] if data else [])


def camel(s):
    return re.sub(r"_([a-z0-9])", lambda m: m[1].upper(), s)


def proxy_userinfo(client):
    """upstreamOauth has no http(s)_proxy_authorization: Basic credentials go into the proxy's URL."""
    for k in ("http_proxy", "https_proxy"):
        auth = client.pop(k + "_authorization", None)
        if auth and client.get(k):
            user = urllib.parse.quote(base64.b64decode(auth.split()[1]).decode(), safe=":")
            client[k] = client[k].replace("://", "://%s@" % user, 1)


def redis_url(r):
    user = "%s:%s@" % tuple(urllib.parse.quote(r.get(k) or "", safe="") for k in ("username", "password"))
    return "%s://%s%s:%s/%s" % ("rediss" if r.get("ssl") else "redis", user if user != ":@" else "",
                                r.get("host", "127.0.0.1"), r.get("port", 6379), r.get("database", 0))


def gateway():
    listeners = [{"name": "http", "protocol": "HTTP", "port": urllib.parse.urlsplit(BASE).port or 80}]
    docs = [obj("gateway.networking.k8s.io/v1", "GatewayClass", "postern",
                {"controllerName": "postern.dev/gateway-controller"})]
    if TLS_PORT:
        key, crt = work() / "tls.key", work() / "tls.crt"
        if not crt.exists():
            subprocess.run(shlex.split("openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=cases.test -addext "
                                       "subjectAltName=DNS:*.test,IP:127.0.0.1 -keyout") + [str(key), "-out", str(crt)],
                           check=True, capture_output=True)
        data = {"tls.crt": crt.read_text(), "tls.key": key.read_text()}
        docs.append(secret("gateway-tls", data, "kubernetes.io/tls"))
        listeners.append({"name": "https", "protocol": "HTTPS", "port": TLS_PORT,
                          "tls": {"mode": "Terminate", "certificateRefs": [{"name": "gateway-tls"}]}})
    return docs + [obj("gateway.networking.k8s.io/v1", "Gateway", "gateway",
                       {"gatewayClassName": "postern", "listeners": listeners})]


def files(state):
    """File name -> documents."""
    out = {"00-gateway.yaml": gateway()}
    consumers = list(state["consumers"].values())
    makers = {"services": service, "routes": lambda r: route(r, state["services"]), "consumers": consumer,
              "credentials": credential, "plugins": lambda p: plugin(p, consumers)}
    for kind, make in makers.items():
        for o in state[kind].values():
            out.setdefault("case-%s.yaml" % o["case"], []).extend(make(o))
    return out


# ---- the folder -----------------------------------------------------------------------------
class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):
    def ignore_aliases(self, data):
        return True


def _str(dumper, s):        # quote what a YAML 1.2 reader could take for a number (1e3, 0o7, .5)
    style = None if re.match(r"[A-Za-z/]", s) and "\n" not in s else "|" if s.startswith("-----BEGIN") else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", s, style=style)


Dumper.add_representer(str, _str)


def write(folder, contents):
    """Make the folder say exactly this: other files of ours go, changed ones are replaced in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    for f in folder.glob("case-*.yaml"):
        if f.name not in contents:
            f.unlink()
    for name in sorted(contents):
        text = yaml.dump_all(contents[name], Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
        path = folder / name
        if path.exists() and path.read_text() == text:
            continue
        fd, tmp = tempfile.mkstemp(prefix=".new-", dir=folder.parent)
        with os.fdopen(fd, "w") as f:
            f.write(text)
        os.chmod(tmp, 0o644)
        os.replace(tmp, path)


def publish():
    write(FOLDER, files(STATE))


# ---- dry run --------------------------------------------------------------------------------
def dump(argv=None):
    """DIR/live: what apply() writes. DIR/check/CASE: what try_apply() offers. DIR/update/CASE/N: the
    case's file after step N, which changes the configuration."""
    import types
    import run
    ap = argparse.ArgumentParser(description=dump.__doc__)
    ap.add_argument("--dump", required=True, type=Path)
    ap.add_argument("--cases", nargs="+", required=True)
    ap.add_argument("--https-base")
    a = ap.parse_args(argv)
    idp, echo = types.SimpleNamespace(base="http://127.0.0.1:9802"), types.SimpleNamespace(port=9801)
    env = {"idp": idp, "echo": echo, "ids": {}}
    configure("http://127.0.0.1:8000", 9801, 9802, a.https_base)
    cases = [run.Case(rewrite_case(c), env) for c in run.load(a.cases)]
    put(STATE, run.merge([c.objects() for c in cases if "reject" not in c.d]))
    write(a.dump / "live", files(STATE))
    for c in cases:
        if "reject" in c.d:
            state = {k: {} for k in KINDS}
            put(state, c.objects())
            write(a.dump / "check" / c.id, files(state))
        for i, step in enumerate(c.d.get("steps") or []):
            changes = {k: run.expand(c.id, c.resolve(step[k]), c.lookup("echo")) for k in ("apply", "delete") if k in step}
            if changes:
                change(**changes)
                name = "case-%s.yaml" % c.id
                write(a.dump / "update" / c.id / str(i), {name: files(STATE)[name]})
    print("%d cases in %s" % (len(cases), a.dump))


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    dump()
