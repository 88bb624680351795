"""An S3 server for the tests, on loopback unless ADDRESS is given: moto, one request at a time.

moto honours If-None-Match on PutObject, but looks and stores in two steps: of 1500 objects with
eight rival writers each, one had two winners. S3 does it in one, so requests take turns here.

usage: s3_server.py BUCKET [ADDRESS]   prints its port once it listens, and ends when its standard input does
"""
import io
import logging
import sys
import threading

from moto.backends import get_backend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

turn = threading.Lock()
moto = DomainDispatcherApplication(create_backend_app)


def app(environ, start_response):
    # Read before the turn is taken: a client that is slow to send holds up nobody.
    length = int(environ.get("CONTENT_LENGTH") or 0)
    environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
    with turn:
        return list(moto(environ, start_response))


logging.getLogger("werkzeug").setLevel(logging.ERROR)
address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
server = make_server(address, 0, app, threaded=True)
get_backend("s3")["123456789012"]["aws"].create_bucket(sys.argv[1], "us-east-1")
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.port, flush=True)
sys.stdin.read()
