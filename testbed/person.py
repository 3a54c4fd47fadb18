"""
Users with phones, on matrix-nio: each has a device of its own that syncs continuously. One process hosts them all.

Each line of JSON on standard input is a request, {"id", "op", "person", ...}, answered by a line {"id", "result"} or
{"id", "error"}. Events that users see in their rooms are printed as {"person", "event"}. The process exits at the end
of its standard input.
"""

import asyncio
import json
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

import aiohttp
from nio import AsyncClient, AsyncClientConfig, ErrorResponse, MegolmEvent, SyncResponse, ToDeviceMessage
from nio.exceptions import EncryptionError
from nio.store import SqliteMemoryStore

LONG_POLL_MS = 30_000
EVENTS_PER_SYNC = 500
LATE_KEY_S = 5  # some homeservers hand a room key over a moment after what it encrypts


def tell(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def payload_of(session: Any, event: MegolmEvent) -> dict[str, Any]:
    """What stood in the ciphertext and nothing else: nio copies the outer relation into it."""
    try:
        payload = json.loads(session.decrypt(event.ciphertext)[0])
    except Exception as error:  # of either crypto library that nio may have; told to whoever looks
        print(f"cannot decrypt {event.event_id}: {error!r}", file=sys.stderr, flush=True)
        return {"how": "undecryptable"}
    return {"how": "decrypted", "type": payload["type"], "content": payload["content"]}


class Phone(AsyncClient):
    """A client that reports every timeline event, decrypted, with the content outside the ciphertext."""

    def __init__(self, name: str, homeserver: str, user: str) -> None:
        config = AsyncClientConfig(store=SqliteMemoryStore, request_timeout=60, max_timeouts=1)
        super().__init__(homeserver, user, config=config)
        self.name = name
        self.crypto = asyncio.Lock()  # one key request or encryption at a time
        self.news = asyncio.Condition()  # a sync has been applied, or what it asked for
        self.syncing: asyncio.Task[None] | None = None
        self.room_keys: dict[str, dict[str, Any]] = {}  # the last one of each room that was handed to us
        self.unread: list[tuple[MegolmEvent, dict[str, Any]]] = []  # told, but without a key
        self.untold: dict[str, deque[tuple[MegolmEvent, dict[str, Any], float]]] = {}  # events by room, in their order

    def keep_room_keys(self) -> None:
        """Keeps received room keys, so that a user can forward one as if it were its own."""
        take = self.olm.create_group_session

        def keep(sender_key: str, fingerprint: str, room_id: str, session_id: str, session_key: str) -> None:
            algorithm = "m.megolm.v1.aes-sha2"
            key = {"algorithm": algorithm, "room_id": room_id, "session_id": session_id, "session_key": session_key}
            self.room_keys[room_id] = key
            take(sender_key, fingerprint, room_id, session_id, session_key)

        self.olm.create_group_session = keep

    def _handle_timeline_event(self, event, room_id, room, encrypted_rooms):  # type: ignore[no-untyped-def]
        decrypted = super()._handle_timeline_event(event, room_id, room, encrypted_rooms)
        source = event.source
        told = {
            "roomId": room_id,
            "eventId": source["event_id"],
            "sender": source["sender"],
            "stateKey": source.get("state_key"),
            "type": source["type"],
            "content": source["content"],
            "outerContent": source["content"],
            "how": "clear",
        }
        if source["type"] == "m.room.encrypted":
            told["how"] = "undecryptable" if self.session(event) and not decrypted else "encrypted"
        until = time.monotonic() + LATE_KEY_S
        self.untold.setdefault(room_id, deque()).append((event, told, until))
        self.tell_events(room_id)
        return decrypted

    def tell_events(self, room_id: str) -> None:
        """Tells what is untold of a room; one whose key may still come holds up those after it."""
        untold = self.untold.get(room_id, deque())
        while untold:
            event, told, until = untold[0]
            if told["how"] == "encrypted":
                session = self.session(event)
                if session is None and time.monotonic() < until:
                    asyncio.get_running_loop().call_later(until - time.monotonic() + 0.01, self.tell_events, room_id)
                    return
                if session is None:
                    self.unread.append((event, told))
                told = told | (payload_of(session, event) if session else {"how": "undecryptable"})
            untold.popleft()
            tell({"person": self.name, "event": told})

    def tell_late(self) -> None:
        """Tells events again whose keys have come later still, as clients show them then."""
        unread, self.unread = self.unread, []
        for event, told in unread:
            session = self.session(event)
            if session:
                tell({"person": self.name, "event": told | payload_of(session, event)})
            else:
                self.unread.append((event, told))

    def session(self, event: Any) -> Any:
        if not hasattr(event, "session_id"):
            return None
        return self.olm.inbound_group_store.get(event.room_id, event.sender_key, event.session_id)

    async def keep_syncing(self) -> None:
        while True:
            try:
                response = await self.sync(LONG_POLL_MS, {"room": {"timeline": {"limit": EVENTS_PER_SYNC}}})
                if not isinstance(response, SyncResponse):
                    raise ConnectionError(str(response))
                for room_id in self.untold:
                    self.tell_events(room_id)
                self.tell_late()
                async with self.news:
                    self.news.notify_all()
                async with self.crypto:
                    await self.settle()
                async with self.news:
                    self.news.notify_all()
            except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as error:
                print(f"{self.name}: {error!r}", file=sys.stderr, flush=True)
                await asyncio.sleep(0.2)

    async def settle(self) -> None:
        """Uploads, queries and claims keys as needed."""
        if self.should_upload_keys:
            check(await self.keys_upload())
        if self.should_query_keys:
            check(await self.keys_query())
        if self.should_claim_keys:
            check(await self.keys_claim(self.get_users_for_key_claiming()))
        await self.send_to_device_messages()

    def sees(self, room_id: str, users: list[str]) -> bool:
        room = self.rooms.get(room_id)
        return room is not None and all(user in room.users and not room.users[user].invited for user in users)

    def knows(self, user: str, devices: list[str]) -> bool:
        return {device.id for device in self.device_store.active_user_devices(user)} == set(devices)


def check(response: Any) -> Any:
    if isinstance(response, ErrorResponse):
        raise RuntimeError(str(response))
    return response


phones: dict[str, Phone] = {}


async def login(person: str, homeserver: str, user: str, password: str, syncing: bool) -> dict[str, Any]:
    phone = Phone(person, homeserver, user)
    check(await phone.login(password, device_name=f"phone of {person}"))
    phone.keep_room_keys()
    check(await phone.sync(0))
    await phone.settle()
    if syncing:
        phone.syncing = asyncio.create_task(phone.keep_syncing())
        phone.syncing.add_done_callback(end_on_failure)
    phones[person] = phone
    return {"userId": phone.user_id, "deviceId": phone.device_id, "accessToken": phone.access_token}


async def wait_joined(person: str, roomId: str, users: list[str], deadlineMs: int) -> None:
    phone = phones[person]
    await wait_for(phone, lambda: phone.sees(roomId, users), deadlineMs)


async def wait_devices(person: str, userId: str, devices: list[str], deadlineMs: int) -> None:
    phone = phones[person]
    await wait_for(phone, lambda: phone.knows(userId, devices), deadlineMs)


async def wait_for(phone: Phone, holds: Callable[[], bool], deadlineMs: int) -> None:
    async with phone.news:
        await asyncio.wait_for(phone.news.wait_for(holds), deadlineMs / 1000)


async def encrypt(person: str, roomId: str, type: str, content: dict[str, Any]) -> dict[str, Any]:
    """Encrypts an event for all devices of everyone in the room."""
    phone = phones[person]
    async with phone.crypto:
        if not phone.rooms[roomId].encrypted:
            raise EncryptionError(f"{roomId} is not encrypted")
        if not phone.rooms[roomId].members_synced:
            check(await phone.joined_members(roomId))
        await phone.settle()
        if phone.olm.should_share_group_session(roomId):
            check(await phone.share_group_session(roomId, ignore_unverified_devices=True))
        encrypted_type, encrypted = phone.encrypt(roomId, type, content)
        return {"type": encrypted_type, "content": encrypted}


async def hand_over(person: str, roomId: str, userId: str) -> None:
    """Sends all devices of a user a room key that another user created, in this user's own name."""
    phone = phones[person]
    await wait_for(phone, lambda: roomId in phone.room_keys, 10_000)
    async with phone.crypto:
        phone.olm.users_for_key_query.add(userId)
        check(await phone.keys_query())
        devices = list(phone.device_store.active_user_devices(userId))
        check(await phone.keys_claim({userId: [device.id for device in devices]}))
        for device in devices:
            session = phone.olm.session_store.get(device.curve25519)
            content = phone.olm._olm_encrypt(session, device, "m.room_key", phone.room_keys[roomId])
            check(await phone.to_device(ToDeviceMessage("m.room.encrypted", userId, device.id, content)))


OPERATIONS = {"login": login, "waitJoined": wait_joined, "waitDevices": wait_devices, "encrypt": encrypt, "handOver": hand_over}


async def answer(id: int, op: str, arguments: dict[str, Any]) -> None:
    try:
        tell({"id": id, "result": await OPERATIONS[op](**arguments)})
    except Exception as error:
        traceback.print_exc()
        tell({"id": id, "error": f"{type(error).__name__}: {error}"})


def end_on_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        traceback.print_exception(error)
        sys.exit(1)


async def main() -> None:
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        request = json.loads(line)
        task = asyncio.create_task(answer(request.pop("id"), request.pop("op"), request))
        running.add(task)
        task.add_done_callback(running.discard)
    for phone in phones.values():
        if phone.syncing:
            phone.syncing.cancel()
        await phone.close()


asyncio.run(main())
