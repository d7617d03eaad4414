"""What all tests need. Some tests press Ctrl-C, but a shell that runs the tests in the background
makes all its processes ignore it, and Python keeps that."""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
