"""What the Hugging Face hub answers about one model, on loopback, until standard input is closed.

usage: hub.py NAME FOLDER LOG

Prints its address. FOLDER is the model's; of files of weights the hub gives a SHA-256, of all other
files git's object id. A connection that asks for a file of weights from its start is cut half way. LOG
gets a line for every request: path, range, authorization.
"""

import hashlib
import http.server
import json
import pathlib
import sys
import threading

name, folder, log = sys.argv[1], pathlib.Path(sys.argv[2]), open(sys.argv[3], "w")
files = {path.name: path.read_bytes() for path in folder.iterdir()}
commit = "0123456789abcdef0123456789abcdef01234567"


def entry(path, content):
    blob = b"blob %d\0" % len(content) + content
    listed = {"type": "file", "path": path, "oid": hashlib.sha1(blob).hexdigest(), "size": len(content)}
    if path.endswith(".safetensors"):
        listed["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return listed


answers = {
    f"/api/models/{name}/revision/main": {"sha": commit},
    f"/api/models/{name}/tree/{commit}": [entry(*file) for file in files.items()],
}


class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        print(self.path, asked, self.headers.get("Authorization"), file=log, flush=True)
        file = self.path.removeprefix(f"/{name}/resolve/{commit}/")
        if self.path in answers:
            return self.answer(200, json.dumps(answers[self.path]).encode())
        if file not in files:
            return self.answer(404, b"")
        content = files[file]
        if asked:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            return self.answer(206, content[start:])
        if file.endswith(".safetensors"):
            return self.answer(200, content, len(content) // 2)
        self.answer(200, content)

    def answer(self, status, content, sent=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:sent])

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}", flush=True)
sys.stdin.read()
