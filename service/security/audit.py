"""One log line for each act of an admin, whatever the log's level."""

import logging

_log = logging.getLogger("service.audit")
_log.setLevel(logging.INFO)


def audit(message: str, **fields: object) -> None:
    """Note an act, or an attempt at one: who, what and how it ended are fields of the line."""
    _log.info(message, extra={"fields": fields})
