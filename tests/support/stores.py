"""Stores for tests: a local S3 server, a web server with faults, and their content."""

import contextlib
import functools
import http.server
import io
import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIASTORES",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


IGNORES_LEFTOVERS = pytest.mark.filterwarnings(
    # From store clients, when sessions of earlier event loops are garbage-collected.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:datetime.datetime.utc:DeprecationWarning",
)


@contextlib.contextmanager
def serve_s3(bucket):
    """Serve S3 with one bucket; environment variables point to it."""
    moto = pytest.importorskip("moto.server", exc_type=ImportError)
    s3fs = pytest.importorskip("s3fs", exc_type=ImportError)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        system = s3fs.S3FileSystem()
        system.mkdir(bucket)
        try:
            yield system
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.stop()


class Answers(http.server.SimpleHTTPRequestHandler):
    """Serves the files of a folder; ``faults`` lists the faults of the next answers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        fault = self.server.faults.pop(0) if self.server.faults else None
        self.server.asked.append(self.path)
        if fault is None:
            return super().do_GET()
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        data = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])  # a truncated answer
        self.close_connection = True
        return None

    def log_message(self, *words):
        pass


@contextlib.contextmanager
def serve_folder(folder):
    """Serve a folder; yields the server, with its ``url`` and the ``faults`` of the next answers."""
    handler = functools.partial(Answers, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.faults, server.asked = [], []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def picture(number, side=24):
    rng = np.random.default_rng(number)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def content(system, root):
    """Return the files below a folder of an fsspec file system by name, without our own."""
    system.invalidate_cache()
    return {
        path.removeprefix(root).lstrip("/"): system.cat_file(path)
        for path in system.find(root)
        if "/.shiftproof/" not in path
    }


def files_below(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".shiftproof.lock"
    }


def all_text_below(*folders):
    """Return the names and contents of all files in folders, as bytes."""
    return b"".join(
        os.fsencode(path) + path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
