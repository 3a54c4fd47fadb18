/**
 * Grammars of homeserver responses, one per endpoint (Matrix spec v1.16, client-server API).
 *
 * @module
 */

import fc from "fast-check";
import { Members } from "./json.ts";
import { base64, dictionary, hostile, listOf, nastyText, oneOf, shape, someCount, someTime } from "./values.ts";

/** Entities that exist at the homeserver. */
export interface World {
  /** User IDs: our own first, then the allowed users. */
  readonly users: readonly [self: string, ...others: string[]];
  readonly rooms: readonly string[];
  readonly devices: readonly string[];
  readonly events: readonly string[];
}

/** Placeholder for the token in the request. */
export const GIVEN_TOKEN = "%given token%";

const STRANGERS = [
  "@stranger:evil.example",
  "@mallory:localhost",
  "@annа:localhost",
  "@anna:evil.example",
  "@anna",
  "anna",
];

/** Grammar of the success response by endpoint. */
export function matrixGrammar(
  { users, rooms, devices, events }: World,
): Readonly<Record<string, fc.Arbitrary<unknown>>> {
  const userId = oneOf(users, [...STRANGERS, `@${"a".repeat(300)}:localhost`, "@:localhost", "@anna:", "@=\n:x"]);
  const roomId = oneOf(rooms, ["!new:localhost", "!other:evil.example", "!v12", "!", "room", "#alias:localhost"]);
  const deviceId = oneOf(devices, ["PHONE", "", "OPENCLAWTOGGLETEST", "a b/c?d"]);
  const eventId = oneOf(events, ["$new", "$", "$other:evil.example", "event"]);
  const token = fc.oneof(
    { weight: 20, arbitrary: fc.constant(GIVEN_TOKEN) },
    { weight: 2, arbitrary: fc.constantFrom("s0_0", "t1", "") },
    { weight: 1, arbitrary: nastyText },
  );
  const algorithm = oneOf(["m.megolm.v1.aes-sha2", "m.olm.v1.curve25519-aes-sha2"], ["m.none", "m.megolm.v2"]);
  const key = fc.oneof({ weight: 8, arbitrary: base64(32) }, { weight: 1, arbitrary: base64(31) }, {
    weight: 1,
    arbitrary: nastyText,
  });
  const signature = base64(64);
  const keyAlgorithm = oneOf(["ed25519", "curve25519", "signed_curve25519"], ["rsa", ""]);
  const keyId = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.tuple(keyAlgorithm, fc.oneof(deviceId, key, fc.constant("AAAAAQ"))).map((two) => two.join(":")),
    },
    { weight: 2, arbitrary: fc.constantFrom("signed_curve25519", "noColon", ":", "a:b:c", "") },
  );
  const signatures = dictionary(userId, dictionary(keyId, signature));

  const membership = oneOf(["join", "join", "join", "leave", "invite", "ban", "knock"], ["JOIN", "dance"]);
  const unsigned = shape({
    age: fc.oneof(fc.integer({ min: 0, max: 100_000 }), fc.integer(), fc.double()),
    transaction_id: fc.string(),
    prev_content: shape({ membership }),
    redacted_because: hostile,
    "m.relations": hostile,
  });
  const event = (
    type: fc.Arbitrary<string>,
    content: fc.Arbitrary<unknown>,
    more: Record<string, fc.Arbitrary<unknown>>,
  ) =>
    shape({
      type,
      sender: userId,
      event_id: eventId,
      origin_server_ts: someTime,
      content,
      unsigned,
      room_id: roomId,
      ...more,
    });
  const stateEvent = fc.oneof(
    {
      weight: 6,
      arbitrary: event(fc.constant("m.room.member"), shape({ membership, displayname: nastyText, reason: nastyText }), {
        state_key: userId,
      }),
    },
    {
      weight: 3,
      arbitrary: event(
        fc.constant("m.room.encryption"),
        shape({ algorithm, rotation_period_ms: someCount, rotation_period_msgs: someCount }),
        { state_key: fc.constantFrom("", "", "", "x") },
      ),
    },
    {
      weight: 1,
      arbitrary: event(
        fc.constantFrom("m.room.create", "m.room.tombstone", "m.room.power_levels", "m.room.name", "x".repeat(1_000)),
        fc.oneof(
          shape({ creator: userId, replacement_room: roomId, room_version: nastyText }),
          hostile as fc.Arbitrary<Members>,
        ),
        { state_key: fc.constantFrom("", "x") },
      ),
    },
  );

  const words = fc.constantFrom(
    "start",
    "stop",
    "status",
    "help",
    "start 2h",
    "Start ",
    "toggle: start",
    "hello",
    "🦞",
  );
  const relation = shape({
    rel_type: fc.constantFrom("m.replace", "m.thread", "m.reference", "m.annotation"),
    event_id: eventId,
    "m.in_reply_to": shape({ event_id: eventId }),
    is_falling_back: fc.boolean(),
    key: nastyText,
  });
  const message = shape({
    msgtype: fc.constantFrom("m.text", "m.text", "m.notice", "m.emote", "m.key.verification.request"),
    body: fc.oneof(words, nastyText),
    format: fc.constant("org.matrix.custom.html"),
    formatted_body: fc.constantFrom(
      "<a href='https://matrix.to/#/@toggle:localhost'>toggle</a> start",
      "<b".repeat(5_000),
    ),
    "m.mentions": shape({ user_ids: listOf(userId), room: fc.boolean() }),
    "m.relates_to": relation,
    "m.new_content": shape({ body: words }),
    from_device: deviceId,
    methods: listOf(fc.constantFrom("m.sas.v1", "m.qr_code.scan.v1", "x")),
    to: userId,
  });
  /** Bytes that look like a Megolm message from outside: version 3, an index, then noise. */
  const megolm = fc.uint8Array({ minLength: 1, maxLength: 300 })
    .map((noise) => new Uint8Array([3, 8, ...noise]).toBase64({ omitPadding: true }));
  const encrypted = shape({
    algorithm,
    ciphertext: fc.oneof<fc.Arbitrary<unknown>[]>(
      megolm,
      dictionary(fc.oneof(key, fc.constantFrom("AAAA")), shape({ type: fc.constantFrom(0, 1, 2), body: base64(120) })),
    ),
    session_id: fc.oneof(key, nastyText),
    sender_key: key,
    device_id: deviceId,
    "m.relates_to": relation,
  });
  const verificationType = fc.constantFrom("request", "ready", "start", "accept", "key", "mac", "done", "cancel", "x")
    .map((step) => `m.key.verification.${step}`);
  const verification = shape({
    transaction_id: fc.oneof(fc.constantFrom("T1", "T2"), nastyText),
    from_device: deviceId,
    method: fc.constantFrom("m.sas.v1", "x"),
    methods: listOf(fc.constantFrom("m.sas.v1", "x")),
    timestamp: someTime,
    key,
    mac: dictionary(keyId, key),
    keys: key,
    commitment: key,
    code: nastyText,
    reason: nastyText,
    hashes: listOf(fc.constantFrom("sha256")),
    key_agreement_protocols: listOf(fc.constantFrom("curve25519-hkdf-sha256")),
    message_authentication_codes: listOf(fc.constantFrom("hkdf-hmac-sha256.v2")),
    short_authentication_string: listOf(fc.constantFrom("emoji", "decimal")),
    "m.relates_to": relation,
  });
  const timelineEvent = fc.oneof(
    { weight: 3, arbitrary: event(fc.constant("m.room.message"), message, {}) },
    { weight: 4, arbitrary: event(fc.constant("m.room.encrypted"), encrypted, {}) },
    { weight: 1, arbitrary: event(verificationType, verification, {}) },
    { weight: 2, arbitrary: stateEvent },
    { weight: 1, arbitrary: event(nastyText, hostile, {}) },
  );

  const roomKey = shape({
    algorithm,
    room_id: roomId,
    session_id: key,
    session_key: base64(229),
    sender_key: key,
    sender_claimed_ed25519_key: key,
    forwarding_curve25519_key_chain: listOf(key),
    code: fc.constantFrom("m.blacklisted", "m.unverified", "m.unauthorised", "m.no_olm", "x"),
    reason: nastyText,
    requesting_device_id: deviceId,
    request_id: nastyText,
    action: fc.constantFrom("request", "request_cancellation"),
    name: fc.constantFrom("m.cross_signing.master", "m.megolm_backup.v1"),
    secret: nastyText,
  });
  const toDeviceType = fc.constantFrom(
    ...[
      "m.room_key",
      "m.forwarded_room_key",
      "m.room_key.withheld",
      "org.matrix.room_key.withheld",
      "m.room_key_request",
    ],
    ...["m.secret.request", "m.secret.send", "m.dummy", "x"],
  );
  const toDevice = fc.oneof(
    { weight: 4, arbitrary: shape({ type: fc.constant("m.room.encrypted"), sender: userId, content: encrypted }) },
    { weight: 3, arbitrary: shape({ type: toDeviceType, sender: userId, content: roomKey }) },
    { weight: 2, arbitrary: shape({ type: verificationType, sender: userId, content: verification }) },
    { weight: 1, arbitrary: shape({ type: nastyText, sender: userId, content: hostile }) },
  );

  const stranger = (index: number) => `@u${index}:evil.example`;
  const strangersMember = (index: number) => ({
    type: "m.room.member",
    state_key: stranger(index),
    sender: stranger(index),
    event_id: `$m${index}`,
    content: { membership: "join" },
  });
  const strangersEvent = (index: number) => ({
    type: index % 2 ? "m.room.message" : "m.room.encrypted",
    sender: stranger(index),
    event_id: `$s${index}`,
    content: {
      msgtype: "m.text",
      body: "start",
      algorithm: "m.megolm.v1.aes-sha2",
      session_id: `${index}`,
      ciphertext: "AwgA",
    },
  });
  const strangersKeys = (index: number) => ({
    type: "m.room_key.withheld",
    sender: stranger(index),
    content: {
      algorithm: "m.megolm.v1.aes-sha2",
      code: "m.unverified",
      room_id: rooms[0] ?? "",
      session_id: `${index}`,
      sender_key: "A".repeat(43),
    },
  });
  const events_ = (item: fc.Arbitrary<unknown>, crowd: (index: number) => unknown) =>
    shape({ events: listOf(item, crowd, 6) });
  const joined = shape({
    timeline: shape({
      events: listOf(timelineEvent, strangersEvent, 6),
      limited: fc.boolean(),
      prev_batch: fc.oneof(token, fc.constantFrom("t1", "t5")),
    }),
    state: events_(stateEvent, strangersMember),
    account_data: events_(hostile, (index) => index),
    ephemeral: events_(
      shape({ type: fc.constant("m.typing"), content: shape({ user_ids: listOf(userId, stranger) }) }),
      (index) => index,
    ),
    summary: hostile,
    unread_notifications: hostile,
  });
  const stripped = fc.oneof(
    stateEvent,
    shape({ type: fc.constant("m.room.member"), state_key: userId, sender: userId }),
  );
  const sync = shape({
    device_lists: shape({ changed: listOf(userId, stranger), left: listOf(userId, stranger) }),
    device_one_time_keys_count: dictionary(keyAlgorithm, someCount),
    device_unused_fallback_key_types: listOf(keyAlgorithm),
    to_device: events_(toDevice, strangersKeys),
    account_data: events_(hostile, (index) => index),
    presence: events_(hostile, (index) => index),
    rooms: shape({
      join: dictionary(roomId, joined, (index) => [`!j${index}:evil.example`, {}]),
      invite: dictionary(
        roomId,
        fc.oneof(
          shape({ invite_state: events_(stripped, strangersMember) }),
          shape({ state: events_(stripped, strangersMember) }),
        ),
        (index) => [`!i${index}:evil.example`, {}],
      ),
      leave: dictionary(roomId, joined, (index) => [`!l${index}:evil.example`, {}]),
      knock: hostile,
    }),
  }, { next_batch: token });

  const deviceKeys = shape({
    user_id: userId,
    device_id: deviceId,
    algorithms: listOf(algorithm),
    keys: dictionary(keyId, key),
    signatures,
    unsigned: shape({ device_display_name: nastyText }),
    dehydrated: fc.boolean(),
  });
  const crossSigning = shape({
    user_id: userId,
    usage: listOf(fc.constantFrom("master", "self_signing", "user_signing", "x")),
    keys: dictionary(keyId, key),
    signatures,
  });
  const failures = dictionary(
    oneOf(["localhost"], ["evil.example", ""]),
    hostile,
    (index) => [`s${index}.example`, {}],
  );
  const crowdOfDevices = (index: number) =>
    [stranger(index), {
      D: { user_id: stranger(index), device_id: "D", algorithms: [], keys: {}, signatures: {} },
    }] as const;
  const query = shape({
    device_keys: dictionary(userId, dictionary(deviceId, deviceKeys), crowdOfDevices),
    master_keys: dictionary(userId, crossSigning),
    self_signing_keys: dictionary(userId, crossSigning),
    user_signing_keys: dictionary(userId, crossSigning),
    failures,
  });
  const claim = shape({
    one_time_keys: dictionary(
      userId,
      dictionary(deviceId, dictionary(keyId, fc.oneof(key, shape({ key, signatures, fallback: fc.boolean() })))),
      (index) => [stranger(index), { D: { "signed_curve25519:A": { key: "A", signatures: {} } } }],
    ),
    failures,
  });
  const messages = shape({
    start: token,
    // May repeat the given token, alternate between two tokens, or be empty, at every request.
    end: fc.oneof({ weight: 3, arbitrary: token }, {
      weight: 4,
      arbitrary: fc.constantFrom("t3", "t4", "t3000000", ""),
    }),
    chunk: fc.oneof(fc.constant([]), listOf(timelineEvent, strangersEvent, 6)),
    state: listOf(stateEvent, strangersMember),
  });

  const loginAnswer = shape({
    user_id: fc.oneof({ weight: 20, arbitrary: fc.constant(users[0]) }, { weight: 1, arbitrary: userId }),
    device_id: deviceId,
    access_token: fc.oneof(fc.constantFrom("syt_token"), nastyText),
    refresh_token: nastyText,
    expires_in_ms: someCount,
    home_server: fc.constant("localhost"),
    well_known: hostile,
    flows: listOf(shape({ type: fc.constantFrom("m.login.password", "m.login.token", "m.login.sso", "x") })),
  });
  const secret = dictionary(
    fc.constantFrom("K", "encrypted", "K2"),
    shape({ iv: base64(16), ciphertext: base64(43), mac: base64(32) }),
  );
  const accountData = fc.oneof(
    shape({ key: fc.constantFrom("K", "K2", "", "../x") }),
    shape({ encrypted: secret }),
    shape({
      name: nastyText,
      algorithm: fc.constantFrom("m.secret_storage.v1.aes-hmac-sha2", "x"),
      iv: base64(16),
      mac: base64(32),
      passphrase: hostile,
    }),
  );
  return {
    sync,
    "keys/upload": shape({ one_time_key_counts: dictionary(keyAlgorithm, someCount) }),
    "keys/query": query,
    "keys/claim": claim,
    sendToDevice: fc.oneof(fc.constant(new Members([])), shape({ x: hostile })),
    messages,
    send: shape({ event_id: eventId }),
    join: shape({ room_id: roomId }),
    leave: fc.oneof(fc.constant(new Members([])), shape({ x: hostile })),
    login: loginAnswer,
    logout: shape({ x: hostile }),
    whoami: shape({
      user_id: fc.oneof({ weight: 20, arbitrary: fc.constant(users[0]) }, { weight: 1, arbitrary: userId }),
      device_id: deviceId,
      is_guest: fc.boolean(),
    }),
    profile: shape({ displayname: nastyText, avatar_url: nastyText }),
    directory: shape({ room_id: roomId, servers: listOf(fc.constant("localhost")) }),
    account_data: accountData,
    device_signing: shape({ x: hostile }),
    signatures: shape({
      failures: dictionary(userId, dictionary(deviceId, shape({ errcode: nastyText, error: nastyText }))),
    }),
    versions: shape({ versions: listOf(fc.constantFrom("v1.1", "v1.16", "r0.6.1", "x")), unstable_features: hostile }),
    "well-known": shape({
      "m.homeserver": shape({
        base_url: fc.oneof(
          fc.constantFrom(
            "http://",
            "ftp://x",
            "https://user:pw@",
            "http://[",
            "//x",
            "http://127.0.0.1:1",
            "http://127.0.0.1:1/a?b#c",
          ),
          nastyText,
        ),
      }),
      "m.identity_server": hostile,
    }),
  };
}

/** Returns the endpoint name of a request, or undefined if it has no grammar. */
export function matrixEndpoint(method: string, path: string): string | undefined {
  if (path === "/.well-known/matrix/client") return "well-known";
  if (path === "/_matrix/client/versions") return "versions";
  const rest = path.replace(/^\/_matrix\/client\/(v3|r0|v1|unstable)\//, "");
  const found = ENDPOINTS.find(([asked, pattern]) => asked === method && pattern.test(rest));
  return found?.[2];
}

const ENDPOINTS: readonly (readonly [method: string, path: RegExp, name: string])[] = [
  ["GET", /^sync$/, "sync"],
  ["POST", /^keys\/upload$/, "keys/upload"],
  ["POST", /^keys\/query$/, "keys/query"],
  ["POST", /^keys\/claim$/, "keys/claim"],
  ["POST", /^keys\/device_signing\/upload$/, "device_signing"],
  ["POST", /^keys\/signatures\/upload$/, "signatures"],
  ["PUT", /^sendToDevice\//, "sendToDevice"],
  ["GET", /^rooms\/[^/]*\/messages$/, "messages"],
  ["PUT", /^rooms\/[^/]*\/send\//, "send"],
  ["POST", /^(rooms\/[^/]*\/join|join\/[^/]*)$/, "join"],
  ["POST", /^rooms\/[^/]*\/leave$/, "leave"],
  ["GET", /^login$/, "login"],
  ["POST", /^login$/, "login"],
  ["POST", /^logout$/, "logout"],
  ["GET", /^account\/whoami$/, "whoami"],
  ["GET", /^profile\//, "profile"],
  ["GET", /^directory\/room\//, "directory"],
  ["GET", /^user\/[^/]*\/account_data\//, "account_data"],
  ["PUT", /^user\/[^/]*\/account_data\//, "account_data"],
];

const CODES = [
  ...["M_FORBIDDEN", "M_NOT_FOUND", "M_LIMIT_EXCEEDED", "M_UNKNOWN", "M_UNRECOGNIZED", "M_BAD_JSON", "M_NOT_JSON"],
  ...["M_INVALID_PARAM", "M_UNKNOWN_POS", "M_UNAUTHORIZED", "M_USER_LOCKED", "M_TOO_LARGE", "M_CONSENT_NOT_GIVEN"],
  ...["M_RESOURCE_LIMIT_EXCEEDED", "M_GUEST_ACCESS_FORBIDDEN", "M_WRONG_ROOM_KEYS_VERSION", "M_USER_DEACTIVATED"],
];

/** Grammar of errors (2, "API Standards"). If the token is refused, it is a soft logout. */
export const matrixError: fc.Arbitrary<unknown> = fc.oneof(
  {
    weight: 12,
    arbitrary: shape({
      errcode: oneOf(CODES, ["m_forbidden", "X"]),
      error: nastyText,
      retry_after_ms: fc.constantFrom<unknown>(0, 1, 700, 1_500, -1, "2", 0.5),
      flows: listOf(shape({ stages: listOf(fc.constantFrom("m.login.password", "m.login.sso")) })),
      session: nastyText,
      params: hostile,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.constant({ errcode: "M_UNKNOWN_TOKEN", error: "Access token has expired", soft_logout: true }),
  },
);

/** Refuses the token for good. */
export const loggedOut = { errcode: "M_UNKNOWN_TOKEN", error: "Unknown access token" };
