"""NHS England's MESH sandbox (Python package mesh-sandbox) on a free port of 127.0.0.1, which it says on standard output.

It keeps messages in memory and verifies the authorization of every request. Mailboxes X26ABC1 to X26ABC3, password
"password", shared key "BackBone". With arguments CERTIFICATE KEY CA it speaks TLS and wants a client certificate of CA.
It ends when its standard input does, so that it outlives no test.
"""

import os
import socket
import ssl
import sys
import threading

os.environ.update(AUTH_MODE="full", STORE_MODE="memory", SHARED_KEY="BackBone", ENV="test")

import uvicorn  # noqa: E402

from mesh_sandbox.api import app  # noqa: E402

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
tls = {}
if len(sys.argv) == 4:
    certificate, key, ca = sys.argv[1:]
    tls = dict(ssl_certfile=certificate, ssl_keyfile=key, ssl_ca_certs=ca, ssl_cert_reqs=ssl.CERT_REQUIRED)
server = uvicorn.Server(uvicorn.Config(app, log_level="error", **tls))


def until_input_ends():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=until_input_ends, daemon=True).start()
print(listener.getsockname()[1], flush=True)
server.run(sockets=[listener])
