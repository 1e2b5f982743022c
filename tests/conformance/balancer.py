#!/usr/bin/env python3
"""A load balancer for the test cluster: gives every Service of type LoadBalancer an address of its own, which kube-proxy
then serves: the one that it asks for, where that is in the pool and free. Run it with in.sh; it stays in the foreground.
"""

import http.client
import ipaddress
import json
import os
import re
import ssl
import subprocess
import time
from urllib.parse import urlsplit

POOL = ipaddress.ip_network("10.97.0.0/24")
# The last ones are for Services that ask for them.
FREE = [str(address) for address in POOL.hosts()][:190]


class Api:
    """One connection to the API server, as the kubeconfig says."""

    def __init__(self):
        with open(os.environ["KUBECONFIG"], encoding="utf-8") as file:
            text = file.read()

        def value(key):
            return re.search(key + r':\s*"?([^",}\s]+)', text)[1]

        url = urlsplit(value("server"))
        context = ssl.create_default_context(cafile=value("certificate-authority"))
        self.connection = http.client.HTTPSConnection(url.hostname, url.port, context=context)
        self.headers = {"Authorization": "Bearer " + value("token"), "Accept": "application/json"}

    def __call__(self, method, path, body=None):
        headers = {**self.headers, "Content-Type": "application/merge-patch+json"}
        self.connection.request(method, path, body and json.dumps(body), headers)
        answer = self.connection.getresponse()
        data = answer.read()
        # A Service may be gone, or changed, since it was listed.
        if answer.status in (404, 409, 422):
            return None
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:300]!r}")
        return json.loads(data)


def balance(api):
    services = api("GET", "/api/v1/services")["items"]
    balanced = [one for one in services if one["spec"]["type"] == "LoadBalancer"]
    taken = {entry.get("ip") for one in balanced for entry in one["status"]["loadBalancer"].get("ingress", [])}
    for service in balanced:
        wanted = service["spec"].get("loadBalancerIP")
        has = [entry.get("ip") for entry in service["status"]["loadBalancer"].get("ingress", [])]
        if wanted:
            address = wanted if ipaddress.ip_address(wanted) in POOL and (wanted not in taken or wanted in has) else None
        elif has:
            continue
        else:
            address = next(address for address in FREE if address not in taken)
        if has == ([address] if address else []):
            continue
        taken.add(address)
        meta = service["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}/status"
        api("PATCH", path, {"status": {"loadBalancer": {"ingress": [{"ip": address}] if address else []}}})


def main():
    # As the node does for Services: a route must exist for kube-proxy to rewrite.
    subprocess.run(["ip", "route", "replace", str(POOL), "dev", "cni0"], check=True)
    api = Api()
    while True:
        try:
            balance(api)
        except (OSError, http.client.HTTPException):
            try:
                api = Api()
            except FileNotFoundError:
                return  # The cluster is gone, and its kubeconfig with it.
        time.sleep(0.2)


main()
