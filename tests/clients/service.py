"""What each client of ours brings besides its library: keys, a token by signed assertion, and what to send.

The folder in LIVEWELL_WORK holds practice.pem, coach.pem and the resources to send; LIVEWELL_BASE is the origin.
"""

import json
import os
import time
import urllib.parse
import urllib.request
import uuid

import jwt

BASE = os.environ["LIVEWELL_BASE"]
WORK = os.environ["LIVEWELL_WORK"]
FHIR = f"{BASE}/fhir"


def token(client):
    """An access token by signed assertion (SMART Backend Services)."""
    endpoint = f"{BASE}/oauth/token"
    with open(os.path.join(WORK, f"{client}.pem"), encoding="ascii") as file:
        key = file.read()
    now = int(time.time())
    claims = {"iss": client, "sub": client, "aud": endpoint, "iat": now, "exp": now + 240, "jti": str(uuid.uuid4())}
    assertion = jwt.encode(claims, key, algorithm="ES384", headers={"kid": client})
    form = {
        "grant_type": "client_credentials",
        "scope": "system/*.cruds",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
    }
    data = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(endpoint, data) as answer:
        return json.load(answer)["access_token"]


def resource(name, **changes):
    """A resource to send, with some elements changed."""
    with open(os.path.join(WORK, f"{name}.json"), encoding="utf-8") as file:
        return json.load(file) | changes


def referral():
    """A referral with a business identifier of its own."""
    identifier = {"system": "https://practice.example/Id/referral", "value": str(uuid.uuid4())}
    return resource("referral", identifier=[identifier])


def parameters(**codes):
    """Operation parameters that are codes."""
    parts = [{"name": name, "valueCode": code} for name, code in codes.items()]
    return {"resourceType": "Parameters", "parameter": parts}


def said(status, name):
    """A parameter of $status."""
    for part in status["parameter"]:
        if part["name"] == name:
            return next(value for key, value in part.items() if key.startswith("value"))
    return None
