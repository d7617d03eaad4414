"""What all tests need. Some press Ctrl-C: a shell that runs them in the background has told
everybody below it to ignore that, which Python then leaves so."""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
