"""NHS England's MESH sandbox (Python package mesh-sandbox) on a free port of 127.0.0.1, which it says on standard output.

It keeps messages in memory and verifies the authorization of every request. Mailboxes X26ABC1 to X26ABC3, password
"password", shared key "BackBone". With arguments CERTIFICATE KEY CA it is behind TLS that wants a client certificate of CA:
a front of its own, because asyncio ends a refused handshake without the alert that says why, which MESH's own front sends.
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


def listening():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener


def copied(source, to):
    try:
        while data := source.recv(65536):
            to.sendall(data)
    except OSError:
        pass
    for end in (source, to):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def refused(client):
    """Lets the alert arrive: closed with something unread, the connection would be reset over it."""
    client.shutdown(socket.SHUT_WR)
    client.settimeout(2)
    try:
        while client.recv(65536):
            pass
    except OSError:
        pass
    client.close()


def one(client, tls, behind):
    raw = client.dup()
    try:
        secured = tls.wrap_socket(client, server_side=True)
    except OSError:
        return refused(raw)
    raw.close()
    inner = socket.create_connection(behind)
    threading.Thread(target=copied, args=(inner, secured), daemon=True).start()
    copied(secured, inner)


def front(listener, behind, certificate, key, ca):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.load_verify_locations(ca)
    tls.verify_mode = ssl.CERT_REQUIRED
    while True:
        client, _ = listener.accept()
        threading.Thread(target=one, args=(client, tls, behind), daemon=True).start()


def until_input_ends():
    sys.stdin.read()
    os._exit(0)


sandbox = said = listening()
if len(sys.argv) == 4:
    said = listening()
    threading.Thread(target=front, args=(said, sandbox.getsockname(), *sys.argv[1:]), daemon=True).start()
threading.Thread(target=until_input_ends, daemon=True).start()
print(said.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[sandbox])
