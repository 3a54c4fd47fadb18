"""Runs Synapse until the end of standard input, so that it ends with its parent process. Takes Synapse's arguments."""

import os
import signal
import sys
import threading
import time

from synapse.app.homeserver import main

GRACE_SECONDS = 5


def end_with_stdin(stdin: int) -> None:
    while os.read(stdin, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


# Synapse closes or redirects the standard streams at its start, so use a duplicate.
threading.Thread(target=end_with_stdin, args=(os.dup(0),), daemon=True).start()
sys.exit(main())
