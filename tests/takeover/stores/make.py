"""
Makes the small stores that these tests take over, with matrix-nio itself, as the Python operator has it:

    python make.py FOLDER           a new store, in the form of the matrix-nio that is installed
    python make.py --load FOLDER    lets it load a store that an older one has made, which moves that to its own form

Beside the database stands `world.json`: the device's public keys, and what others have encrypted for it since the store
was written, with what that says. The account is made for this alone and known to no homeserver.
"""

import json
import sys
from pathlib import Path

from nio.api import Api
from nio.crypto import (
    InboundGroupSession,
    InboundSession,
    OlmAccount,
    OutboundGroupSession,
    OutboundSession,
)
from nio.store import DefaultStore
from unpaddedbase64 import encode_base64

USER, DEVICE = "@toggle:localhost", "OLDDEVICE"
PEER = "@anna:localhost"
ROOM = "!talk:localhost"
PICKLE_KEY = "DEFAULT_KEY"


def signed(account, user, device, value):
    value["signatures"] = {user: {f"ed25519:{device}": account.sign(Api.to_canonical_json(value))}}
    return value


def device_keys(account, user, device):
    keys = {f"{name}:{device}": key for name, key in account.identity_keys.items()}
    algorithms = ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"]
    return signed(account, user, device, {"algorithms": algorithms, "device_id": device, "user_id": user, "keys": keys})


def parts(message):
    """Type and text of an Olm message, whichever library has made it."""
    if hasattr(message, "ciphertext") and isinstance(message.ciphertext, str):
        return message.message_type, message.ciphertext
    kind, ciphertext = message.to_parts()
    text = ciphertext if isinstance(ciphertext, str) else encode_base64(ciphertext)
    return kind, text


def to_device(account, peer, session, body):
    """What a peer sends to the device, as it stands in a sync answer."""
    own, theirs = account.identity_keys, peer.identity_keys
    payload = {
        "type": "m.dummy",
        "content": {"body": body},
        "sender": PEER,
        "recipient": USER,
        "recipient_keys": {"ed25519": own["ed25519"]},
        "keys": {"ed25519": theirs["ed25519"]},
    }
    kind, text = parts(session.encrypt(json.dumps(payload)))
    content = {
        "algorithm": "m.olm.v1.curve25519-aes-sha2",
        "sender_key": theirs["curve25519"],
        "ciphertext": {own["curve25519"]: {"type": kind, "body": text}},
    }
    return {"body": body, "event": {"type": "m.room.encrypted", "sender": PEER, "content": content}}


def one_time_key(account):
    """A new one of theirs, which they take for published."""
    account.generate_one_time_keys(1)
    (key,) = account.one_time_keys["curve25519"].values()
    account.mark_keys_as_published()
    return key


def olm_sessions(account, store):
    """Sessions in every state that a ratchet can be in, what their other ends say next, and whose devices those are."""
    own = account.identity_keys["curve25519"]

    def incoming(state):
        peer = OlmAccount()
        theirs = OutboundSession(peer, own, one_time_key(account))
        first = theirs.encrypt("{}")
        ours = InboundSession(account, first, peer.identity_keys["curve25519"])
        ours.decrypt(first)
        account.remove_one_time_keys(ours)
        return state(peer, ours, theirs)

    def heard(peer, ours, theirs):
        return peer, ours, theirs

    def answered(peer, ours, theirs):
        theirs.decrypt(ours.encrypt("{}"))
        return peer, ours, theirs

    def skipped(peer, ours, theirs):
        theirs.decrypt(ours.encrypt("{}"))
        late = to_device(account, peer, theirs, "late")
        ours.decrypt(theirs.encrypt("{}"))
        theirs.decrypt(ours.encrypt("{}"))
        ours.decrypt(theirs.encrypt("{}"))
        return peer, ours, theirs, late

    def outgoing():
        peer = OlmAccount()
        ours = OutboundSession(account, peer.identity_keys["curve25519"], one_time_key(peer))
        first = ours.encrypt("{}")
        theirs = InboundSession(peer, first, own)
        theirs.decrypt(first)
        return peer, ours, theirs

    hellos, devices = [], {}
    for name, made in {
        "heard": incoming(heard),
        "answered": incoming(answered),
        "skipped": incoming(skipped),
        "outgoing": outgoing(),
    }.items():
        peer, ours, theirs, *late = made
        devices[name.upper()] = device_keys(peer, PEER, name.upper())
        store.save_session(peer.identity_keys["curve25519"], ours)
        hellos += [*late, to_device(account, peer, theirs, f"to the session that was {name}")]
    return hellos, devices


def megolm_sessions(account, store):
    """Sessions of a peer, one of them forwarded by another, and messages under them."""
    peer = OlmAccount()
    keys = peer.identity_keys
    messages = []
    for body, chain in (("direct", []), ("forwarded", [OlmAccount().identity_keys["curve25519"]])):
        outbound = OutboundGroupSession()
        outbound.mark_as_shared()
        session = InboundGroupSession(outbound.session_key, keys["ed25519"], keys["curve25519"], ROOM, chain)
        store.save_inbound_group_session(session)
        payload = {"type": "m.room.message", "room_id": ROOM, "content": {"msgtype": "m.text", "body": body}}
        content = {
            "algorithm": "m.megolm.v1.aes-sha2",
            "sender_key": keys["curve25519"],
            "device_id": "PEER",
            "session_id": outbound.id,
            "ciphertext": outbound.encrypt(json.dumps(payload)),
        }
        event = {"type": "m.room.encrypted", "event_id": f"${body}", "sender": PEER, "origin_server_ts": 0}
        messages.append({"body": body, "event": {**event, "content": content}})
    return messages


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    store = DefaultStore(USER, DEVICE, str(folder), PICKLE_KEY, "store.db")
    account = OlmAccount()
    account.shared = True
    store.save_account(account)
    hellos, devices = olm_sessions(account, store)
    world = {
        "deviceKeys": device_keys(account, USER, DEVICE),
        "toDevice": hellos,
        "peerDevices": devices,
        "messages": megolm_sessions(account, store),
    }
    account.generate_one_time_keys(5)
    world["oneTimeKeys"] = {
        f"signed_curve25519:{id}": signed(account, USER, DEVICE, {"key": key})
        for id, key in account.one_time_keys["curve25519"].items()
    }
    account.mark_keys_as_published()
    store.save_account(account)
    store.save_encrypted_rooms([ROOM])
    store.save_sync_token("s42")
    store.database.execute_sql("PRAGMA page_size = 512")
    store.database.execute_sql("VACUUM")
    store.database.close()
    (folder / "world.json").write_text(json.dumps(world, indent=1) + "\n")


def load(folder):
    store = DefaultStore(USER, DEVICE, str(folder), PICKLE_KEY, "store.db")
    assert store.load_account()
    store.load_sessions()
    store.load_inbound_group_sessions()
    store.database.close()


if sys.argv[1] == "--load":
    load(Path(sys.argv[2]))
else:
    make(Path(sys.argv[1]))
