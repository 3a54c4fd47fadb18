"""
Adds Megolm sessions to a store of the Python operator, using its own matrix-nio, as years of chatting would:

    python add_sessions.py FOLDER COUNT
"""

import json
import sys
from pathlib import Path

from nio.crypto import InboundGroupSession, OlmAccount, OutboundGroupSession
from nio.store import DefaultStore

folder, count = Path(sys.argv[1]), int(sys.argv[2])
session = json.loads((folder / "session.json").read_text())
store = DefaultStore(session["user_id"], session["device_id"], str(folder), "DEFAULT_KEY")
keys = OlmAccount().identity_keys
with store.database.atomic():
    for number in range(count):
        key = OutboundGroupSession().session_key
        room = f"!{number % 40}:localhost"
        store.save_inbound_group_session(InboundGroupSession(key, keys["ed25519"], keys["curve25519"], room))
store.database.close()
