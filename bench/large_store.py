"""
Creates a large crypto store of matrix-nio, as the Python operator uses it: `make FOLDER SESSIONS DEVICES`. Or opens one
and prints how long that took and the memory of the process: `open FOLDER`.
"""

import base64
import json
import os
import secrets
import sys
import time

from nio.crypto import InboundGroupSession, Olm, OlmDevice
from nio.store import DefaultStore

USER, DEVICE, KEY = "@bench:localhost", "BENCH", "DEFAULT_KEY"
DEVICES_OF_ONE_USER, SESSIONS_OF_ONE_ROOM = 10, 100


def machine(folder: str) -> Olm:
    return Olm(USER, DEVICE, DefaultStore(USER, DEVICE, folder, KEY))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def make(folder: str, sessions: int, devices: int) -> None:
    import olm

    os.makedirs(folder)
    store = machine(folder).store
    with store.database.atomic():
        for i in range(sessions):
            outbound = olm.OutboundGroupSession()
            room = f"!room-{i % SESSIONS_OF_ONE_ROOM}:localhost"
            sender = encoded(secrets.token_bytes(32))
            store.save_inbound_group_session(
                InboundGroupSession(outbound.session_key, encoded(secrets.token_bytes(32)), sender, room)
            )
        known: dict[str, dict[str, OlmDevice]] = {}
        for i in range(devices):
            user, device = f"@user-{i // DEVICES_OF_ONE_USER}:localhost", f"DEVICE{i}"
            keys = {"ed25519": encoded(secrets.token_bytes(32)), "curve25519": encoded(secrets.token_bytes(32))}
            known.setdefault(user, {})[device] = OlmDevice(user, device, keys)
        store.save_device_keys(known)


def open_store(folder: str) -> None:
    begin = time.perf_counter()
    opened = machine(folder)
    ms = (time.perf_counter() - begin) * 1000
    with open("/proc/self/statm") as statm:
        rss = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    print(json.dumps({"ms": ms, "rss": rss}), flush=True)
    # The bench looks at this process until it ends our input.
    sys.stdin.read()
    del opened


if sys.argv[1] == "make":
    make(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
else:
    open_store(sys.argv[2])
