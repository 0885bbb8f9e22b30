"""A chat server on loopback that says what a test wants it to, and misbehaves as real ones do."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def scripted(answer):
    """Serves `answer(body, number) -> str | (status, headers, bytes)`; gives the base address and the log."""
    log, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(log)
                log.append((time.monotonic(), body))
            said = answer(body, number)
            status, headers, content = said if isinstance(said, tuple) else (200, {}, completion(said))
            self.send_response(status)
            for name, value in ({"Content-Length": len(content)} | headers).items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", log
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(text, reason="stop", tokens=(100, 50)):
    """The bytes of a chat completion."""
    choice = {"message": {"content": text}, "finish_reason": reason}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return json.dumps({"choices": [choice], "usage": usage}).encode()
