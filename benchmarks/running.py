"""The service as a process to be measured, and a picture to send it."""

import http.client
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from engines.bundle import Bundle

JPEG_BYTES = 100_000


def jpeg_of(bundle: Bundle) -> bytes:
    """The golden image enlarged to 640 pixels, as a JPEG of some 100 kB."""
    image = cv2.resize(cv2.imread(str(bundle.golden_path)), (640, 640), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).normal(0, 6, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    sizes = [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for quality in range(40, 100, 2)]
    return min(sizes, key=lambda encoded: abs(len(encoded) - JPEG_BYTES)).tobytes()


def start(bundle: Path, data: Path, *more: str) -> tuple[float, subprocess.Popen[bytes], int]:
    """Start the service; seconds until /readyz says yes, the process, and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--bundle", str(bundle), "--data-dir", str(data), "--port", str(port), *more]
    began = time.perf_counter()
    server = subprocess.Popen([sys.executable, "-m", "service", *flags], stderr=subprocess.DEVNULL)
    while time.perf_counter() - began < 60:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return time.perf_counter() - began, server, port
        except OSError:
            pass
        time.sleep(0.01)
    raise SystemExit("The service was not ready within a minute.")


def stop(server: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and wait."""
    server.send_signal(signal.SIGTERM)
    server.wait(timeout=30)
