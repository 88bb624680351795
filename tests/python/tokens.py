"""An OAuth 2.0 token endpoint on loopback, until standard input is closed.

usage: tokens.py CLIENT PRINCIPAL, its secret in the first line of standard input.
Prints its URL. A request with the client's credentials (RFC 6749, 4.4) gets an unsigned JSON web
token (RFC 7519, 6) whose subject is PRINCIPAL; any other gets 401.
"""

import base64
import http.server
import json
import sys
import threading
import time

client, principal = sys.argv[1:]
secret = sys.stdin.readline().rstrip("\n")
credentials = base64.b64encode(f"{client}:{secret}".encode()).decode()


def part(claims):
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


class Endpoint(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Basic {credentials}":
            return self.answer(401, {"error": "invalid_client"})
        now = int(time.time())
        claims = {"sub": principal, "iat": now, "exp": now + 600}
        token = f'{part({"alg": "none"})}.{part(claims)}.'
        self.answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 600})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}/token", flush=True)
sys.stdin.read()
