"""One JSON object per log line on standard error, written by a thread of its own: a stalled reader stops no request."""

import json
import logging
import queue
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener

# Lines that wait for a stalled reader; beyond it they are dropped, for memory is worth more than log lines.
_MOST_WAITING = 10_000
_PERIOD_SECONDS = 0.2


class JsonFormatter(logging.Formatter):
    """time (UTC), level, logger, message, the fields given as `extra={"fields": {...}}`, and the traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _DroppingHandler(QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # Nothing leaves the process: the listener can format what is logged, out of the requests' way.
        return record

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], queue.Full):
            super().handleError(record)


class _PeriodicListener(QueueListener):
    """Looks at the queue a few times a second: waking a thread for each line cost each request 0.2 ms."""

    def dequeue(self, block: bool) -> logging.LogRecord:
        while True:
            try:
                return super().dequeue(block=False)
            except queue.Empty:
                if not block:
                    raise
                time.sleep(_PERIOD_SECONDS)


@contextmanager
def json_logs(level: str) -> Iterator[None]:
    """Log everything from `level` (debug, info, warning, error) upwards while the block runs."""
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(_MOST_WAITING)
    handler = _DroppingHandler(waiting)
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(JsonFormatter())
    listener = _PeriodicListener(waiting, output)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        root.removeHandler(handler)
