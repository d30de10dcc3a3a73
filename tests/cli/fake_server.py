"""A fake server: python fake_server.py PORT [--option ...]. It needs the standard library only.

Its answers are streams, token by token. Those of deterministic requests come four tokens at a time,
with a receipt.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--sick", type=int, default=0, help="number of 503s of /health")
parser.add_argument("--exit", type=int, help="end at once with this status")
parser.add_argument("--stubborn", action="store_true", help="ignore SIGTERM")
parser.add_argument("--children", metavar="FILE", help="start two children, write their ids")
parser.add_argument("--token-s", type=float, default=0, help="seconds per token of a stream")
options, _ = parser.parse_known_args()

print("\x1b[32mloading\x1b[0m weights", flush=True)
if options.exit is not None:
    sys.exit(options.exit)
if options.stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if options.children:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    children = [subprocess.Popen(sleep, start_new_session=new) for new in (False, True)]
    with open(options.children + ".new", "w") as file:
        json.dump([child.pid for child in children], file)
    os.rename(options.children + ".new", options.children)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        options.sick -= 1
        self.reply(503 if options.sick >= 0 else 200)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        if self.path == "/generate":
            self.stream(**body["sampling_params"])
        else:
            self.reply(200 if self.path.startswith("/flush_cache") else 404)

    def stream(self, max_new_tokens, custom_params=None, **_):
        self.send_response(200)
        self.end_headers()
        receipt = {"verified": True, "canonical_steps": 6, "rollbacks": 1, "tokens_rolled_back": 3}
        run = 4 if custom_params else 1
        for end in [*range(1, max_new_tokens, run), max_new_tokens]:
            time.sleep(options.token_s * run)
            last = {"llm42": receipt} if custom_params and end == max_new_tokens else {}
            event = {"output_ids": [*range(end)], "meta_info": {"completion_tokens": end, **last}}
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def reply(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer.request_queue_size = 64
ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()
