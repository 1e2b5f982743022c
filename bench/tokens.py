#!/usr/bin/env python3
"""tokens.py FOLDER: signed tokens with their keys for the peers, manifests for Postern that accept tokens of all kinds."""
import hashlib
import hmac
import json
import os
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from manifests import b64, base, http, obj, write

OUT = Path(sys.argv[1])
POOL = 1000     # tokens of each algorithm
ISSUER = "https://issuer.test"
EXPIRES = int(time.time()) + 5 * 365 * 86400
TARGET = [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "all"}]


def number(value, length):
    return b64(value.to_bytes(length, "big"))


rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ec_key = ec.generate_private_key(ec.SECP256R1())
secret = os.urandom(32).hex()
pem = {name: key.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    for name, key in (("RS256", rsa_key), ("ES256", ec_key))}
numbers = rsa_key.public_key().public_numbers()
jwk = {"kty": "RSA", "kid": "RS256", "alg": "RS256", "use": "sig", "n": number(numbers.n, 256), "e": number(numbers.e, 3)}
(OUT / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
(OUT / "rs256.pem").write_bytes(rsa_key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def sign(algorithm, message):
    match algorithm:
        case "RS256":
            return rsa_key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        case "ES256":
            r, s = utils.decode_dss_signature(ec_key.sign(message, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        case _:
            return hmac.new(secret.encode(), message, hashlib.sha256).digest()


def tokens(algorithm, **more):
    head = b64(json.dumps({"alg": algorithm, "typ": "JWT", "kid": algorithm}).encode())
    for n in range(POOL):
        claims = {"iss": ISSUER, "aud": "bench", "sub": f"user-{n:04d}", "iat": EXPIRES - 86400, "exp": EXPIRES,
                  "jti": f"{n:016x}", "scope": "read write", **more}
        message = f"{head}.{b64(json.dumps(claims, separators=(',', ':')).encode())}"
        yield f"{message}.{b64(sign(algorithm, message.encode()))}"


def plugin(name, **spec):
    return obj("postern.dev/v1alpha1", "AuthPlugin", name, {"targetRefs": TARGET, **spec})


consumer = obj("postern.dev/v1alpha1", "Consumer", "caller", {"username": "consumer-0"})
for algorithm in ("HS256", "RS256", "ES256"):
    name = algorithm.lower()
    with open(OUT / f"pool-jwt-{name}", "w") as pool:
        pool.writelines(token + "\n" for token in tokens(algorithm))
    (OUT / f"jwt-{name}.key").write_text(pem.get(algorithm, secret))
    key = {"publicKey": pem[algorithm]} if algorithm in pem else {"secretRef": {"name": "secret", "key": "secret"}}
    common = base(http) + [
        consumer,
        obj("v1", "Secret", "secret", stringData={"secret": secret}),
        obj("postern.dev/v1alpha1", "Credential", "token", {
            "consumerRef": {"name": "caller"}, "jwt": {"key": ISSUER, "algorithm": algorithm, **key}}),
    ]
    write(OUT / f"jwt-{name}", common + [plugin("jwt", jwt={"claimsToVerify": ["exp"], "verificationCache": False})])
    write(OUT / f"jwt-{name}-cached", common + [plugin("jwt", jwt={"claimsToVerify": ["exp"]})])

application = {"name": "bench", "clientId": "bench", "redirectUris": ["https://app.test/"],
               "clientSecretRef": {"name": "secret", "key": "secret"}}
write(OUT / "oauth2", base(http) + [
    consumer,
    obj("v1", "Secret", "secret", stringData={"secret": secret}),
    obj("postern.dev/v1alpha1", "Credential", "app", {"consumerRef": {"name": "caller"}, "oauth2": application}),
    plugin("oauth2", oauth2={"enableClientCredentials": True, "acceptHttpIfAlreadyTerminated": True}),
])
(OUT / "oauth2.key").write_text(secret)
write(OUT / "upstream-oauth", base(http) + [
    obj("v1", "Secret", "secret", stringData={"secret": secret}),
    plugin("upstream", upstreamOauth={"oauth": {
        "tokenEndpoint": "http://127.0.0.1:21000/token", "clientId": "bench",
        "clientSecretRef": {"name": "secret", "key": "secret"}}}),
])

# The metadata and keys of a provider are files of the upstream's; sign_in.py is the rest of it.
PROVIDER = "http://127.0.0.1:21000/idp"
idp = OUT / "idp"
(idp / ".well-known").mkdir(parents=True, exist_ok=True)
(idp / ".well-known" / "openid-configuration").write_text(json.dumps({
    "issuer": PROVIDER, "jwks_uri": PROVIDER + "/keys", "authorization_endpoint": PROVIDER + "/authorize",
    "token_endpoint": "http://127.0.0.1:21001/token", "response_types_supported": ["code"],
    "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
}))
with open(OUT / "pool-oidc-bearer", "w") as pool:
    pool.writelines(token + "\n" for token in tokens("RS256", iss=PROVIDER, sub="caller", iat=int(time.time())))
(idp / "keys").write_text(json.dumps({"keys": [jwk]}))
client = {"clientId": "bench", "clientSecretRef": {"name": "secret", "key": "secret"},
          "discovery": PROVIDER + "/.well-known/openid-configuration", "consumerClaim": "sub"}
for name, options in (("session", {"redirectUri": "http://127.0.0.1:22000/callback"}),
                      ("bearer", {"bearerOnly": True, "useJwks": True})):
    write(OUT / f"oidc-{name}", base(http) + [
        consumer, obj("v1", "Secret", "secret", stringData={"secret": secret}),
        plugin("users", openidConnect=client | options),
    ])
